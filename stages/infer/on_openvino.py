"""ResNet50 computed by OpenVINO from the same weights, without TensorFlow.

The graph is `keras.applications.ResNet50` with each BatchNormalization folded into the convolution before it; the
probabilities agree with Keras' to 1e-5 (tests/infer/test_resnet50.py). With `ONEDNN_MAX_CPU_ISA=AVX2`
(environment.py) they are the same bits on Intel's and AMD's processors, for any number of threads and any batch size.
Two operations are written as others, because OpenVINO chooses their kernels by the processor and heeds no setting: the
last layer's matrix product as a convolution, the mean over the image as average pooling.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import openvino as ov
from openvino import opset13 as op

from stages import resnet50
from stages.common import cli, environment
from stages.common.cli import UserError
from stages.common.params import ComputeSettings
from stages.resnet50 import EPSILON, MEANS


def compile_network(path: Path, batch_size: int, settings: ComputeSettings) -> Callable[[np.ndarray], np.ndarray]:
    """Compile the network: float32 (n, 224, 224, 3) images, red first, 0..255 -> float32 (n, 1000).

    Each thread computes its share of the images by itself, which is 5% faster (2 cores, AMD EPYC) than sharing the
    work of each layer, because no thread waits for another.

    Raises:
        UserError: on Arm64 without /sys.
    """
    if platform.machine() == "aarch64" and not os.path.exists("/sys/devices/system/cpu"):  # OpenVINO would crash
        raise UserError(
            "inference.backend: openvino finds the processor's cores in /sys, which is not there: mount it, or write keras"
        )
    environment.choose(settings.instructions)
    cli.log(f"computing with OpenVINO {ov.get_version().split('-')[0]} on the CPU")
    with h5py.File(path, "r") as weights:
        graph = build(weights)
    threads = settings.threads
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the threads that decode images need the same cores
    }
    compiled = ov.Core().compile_model(graph, "CPU", options)
    requests = [compiled.create_infer_request() for _ in range(min(threads, batch_size))]

    def run(images: np.ndarray) -> np.ndarray:
        shares = np.array_split(images, min(len(requests), len(images)))
        busy = requests[: len(shares)]
        for request, share in zip(busy, shares, strict=True):
            request.start_async([share], share_inputs=True)
        for request in busy:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in busy])

    return run


def build(weights: h5py.File) -> ov.Model:
    """The graph for any number of images, with `preprocess_input` (blue first, minus the means) before it.

    Each BatchNormalization is folded into the convolution before it, each padding into the layer after it. A KeyError
    names a missing weight.
    """

    def weight(layer: str, name: str) -> np.ndarray:
        return weights[f"{layer}/{layer}/{name}:0"][()]

    def convolve(inputs: ov.Node, kernel: np.ndarray, bias: np.ndarray, stride: int = 1) -> ov.Node:
        """kernel (rows, columns, channels, filters), padded by half its size on each side."""
        half = kernel.shape[0] // 2
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        outputs = op.convolution(inputs, kernel, [stride] * 2, [half] * 2, [half] * 2, [1, 1])
        return op.add(outputs, bias.reshape(1, -1, 1, 1))

    def normalised(inputs: ov.Node, conv: str, norm: str, stride: int) -> ov.Node:
        """A convolution and the BatchNormalization after it as one convolution."""
        scale = weight(norm, "gamma") / np.sqrt(weight(norm, "moving_variance") + np.float32(EPSILON))
        bias = (weight(conv, "bias") - weight(norm, "moving_mean")) * scale + weight(norm, "beta")
        return convolve(inputs, weight(conv, "kernel") * scale, bias, stride)

    images = op.parameter([-1, 224, 224, 3], np.float32)
    blue_first = op.gather(op.transpose(images, [0, 3, 1, 2]), [2, 1, 0], 1)
    nodes = {"input_layer": op.subtract(blue_first, MEANS.reshape(1, 3, 1, 1))}
    layers = {layer.name: layer for layer in resnet50.layers()}
    for name, layer in layers.items():
        inputs = [nodes[source] for source in layer.inputs]
        match layer.type:
            case "ZeroPadding2D" | "Conv2D":  # part of the layer after it
                nodes[name] = inputs[0]
            case "BatchNormalization":
                conv = layers[layer.inputs[0]]
                stride = layers[conv.inputs[0]].output[0] // conv.output[0]
                nodes[name] = normalised(*inputs, conv.name, name, stride)
            case "Activation":
                nodes[name] = op.relu(*inputs)
            case "Add":
                nodes[name] = op.add(*inputs)
            case "MaxPooling2D":
                nodes[name] = op.max_pool(*inputs, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
            case "GlobalAveragePooling2D":
                nodes[name] = op.avg_pool(*inputs, [1, 1], [0, 0], [0, 0], [7, 7], exclude_pad=True)
            case "Dense":
                nodes[name] = convolve(*inputs, weight(name, "kernel")[None, None], weight(name, "bias"))
    return ov.Model([op.softmax(op.reshape(nodes[name], [-1, resnet50.CLASSES], False), 1)], [images])
