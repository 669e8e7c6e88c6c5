"""ResNet50 computed by OpenVINO from the same weights, without TensorFlow.

The graph is `keras.applications.ResNet50` with each BatchNormalization folded into the convolution before it; the
probabilities agree with Keras' to 1e-5 (tests/infer/test_resnet50.py). With `ONEDNN_MAX_CPU_ISA=AVX2`
(environment.py) they are the same bits on Intel's and AMD's processors, for any number of threads and any batch size.
Two operations are written as others, because OpenVINO chooses their kernels by the processor and heeds no setting: the
last layer's matrix product as a convolution, the mean over the picture as average pooling.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import openvino as ov
from openvino import opset13 as op

from stages.common import cli, environment
from stages.common.params import Runtime
from stages.resnet50 import CLASSES, MEANS

EPSILON = 1.001e-5  # of each BatchNormalization, as keras.applications has it
BLOCKS = {"conv2": 3, "conv3": 4, "conv4": 6, "conv5": 3}  # residual blocks of each stack


def compile_network(path: Path, batch_size: int, settings: Runtime) -> Callable[[np.ndarray], np.ndarray]:
    """Compile the network: float32 (n, 224, 224, 3) pictures, red first, 0..255 -> float32 (n, 1000).

    Each thread computes its share of the pictures by itself, which is 5% faster (2 cores, AMD EPYC) than sharing the
    work of each layer, because no thread waits for another.
    """
    environment.choose(settings.instructions)
    cli.log(f"computing with OpenVINO {ov.get_version().split('-')[0]} on the CPU")
    with h5py.File(path, "r") as weights:
        graph = build(weights)
    threads = settings.threads
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the threads that decode pictures need the same cores
    }
    compiled = ov.Core().compile_model(graph, "CPU", options)
    requests = [compiled.create_infer_request() for _ in range(min(threads, batch_size))]

    def run(pictures: np.ndarray) -> np.ndarray:
        shares = np.array_split(pictures, min(len(requests), len(pictures)))
        busy = requests[: len(shares)]
        for request, share in zip(busy, shares, strict=True):
            request.start_async([share], share_inputs=True)
        for request in busy:
            request.wait()
        return np.concatenate([request.get_output_tensor().data for request in busy])

    return run


def build(weights: h5py.File) -> ov.Model:
    """The graph for any number of pictures, with `preprocess_input` (blue first, minus the means) before it; a KeyError names a missing weight."""

    def weight(layer: str, name: str) -> np.ndarray:
        return weights[f"{layer}/{layer}/{name}:0"][()]

    def convolve(inputs: ov.Node, kernel: np.ndarray, bias: np.ndarray, stride: int = 1) -> ov.Node:
        """kernel (rows, columns, channels, filters), padded by half its size on each side."""
        half = kernel.shape[0] // 2
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        outputs = op.convolution(inputs, kernel, [stride] * 2, [half] * 2, [half] * 2, [1, 1])
        return op.add(outputs, bias.reshape(1, -1, 1, 1))

    def normalised(inputs: ov.Node, name: str, stride: int = 1) -> ov.Node:
        """The convolution `name`_conv and the BatchNormalization `name`_bn as one convolution."""
        conv, norm = f"{name}_conv", f"{name}_bn"
        scale = weight(norm, "gamma") / np.sqrt(weight(norm, "moving_variance") + np.float32(EPSILON))
        bias = (weight(conv, "bias") - weight(norm, "moving_mean")) * scale + weight(norm, "beta")
        return convolve(inputs, weight(conv, "kernel") * scale, bias, stride)

    def residual(inputs: ov.Node, name: str, stride: int, first: bool) -> ov.Node:
        shortcut = normalised(inputs, f"{name}_0", stride) if first else inputs
        outputs = op.relu(normalised(inputs, f"{name}_1", stride))
        outputs = op.relu(normalised(outputs, f"{name}_2"))
        return op.relu(op.add(shortcut, normalised(outputs, f"{name}_3")))

    pictures = op.parameter([-1, 224, 224, 3], np.float32)
    blue_first = op.gather(op.transpose(pictures, [0, 3, 1, 2]), [2, 1, 0], 1)
    x = op.relu(normalised(op.subtract(blue_first, MEANS.reshape(1, 3, 1, 1)), "conv1", stride=2))
    x = op.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    for stack, blocks in BLOCKS.items():
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stack != "conv2" else 1
            x = residual(x, f"{stack}_block{block}", stride, first=block == 1)
    x = op.avg_pool(x, [1, 1], [0, 0], [0, 0], [7, 7], exclude_pad=True)
    x = convolve(x, weight("predictions", "kernel")[None, None], weight("predictions", "bias"))
    return ov.Model([op.softmax(op.reshape(x, [-1, CLASSES], False), 1)], [pictures])
