"""One epoch of each version, validation included, side by side with what a user would pick instead."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.side_by_side import ROOT, unpin

IMAGES = {"mlp": 60_000, "mlp_batchnorm": 60_000, "cnn": 6_000}  # of the training set
EPOCHS = 1_000  # more than are ever asked for


def networks(file: str = "networks.yaml") -> dict:
    """The checked blocks of a file beside this one, by name."""
    from stages.common.params import Model
    from stages.common.yaml_files import load_yaml

    blocks = load_yaml(ROOT / "benchmarks" / file)
    return {name: Model.model_validate(block) for name, block in blocks.items()}


def read(version: str, images: int):
    """params.yaml, the block of a version or of networks.yaml without early stopping, and that many training images.

    They are repeated where more are asked for than there are.
    """
    import numpy as np

    from stages import mnist
    from stages.common.cli import UserError
    from stages.common.params import load_params

    params = load_params(ROOT / "params.yaml")
    blocks = networks() | params.models
    if version not in blocks:
        raise UserError(f"{version}: no such version; there are {', '.join(blocks)}")
    model = blocks[version].model_copy(update={"epochs": EPOCHS, "early_stopping": None})
    digits = mnist.load(ROOT / "data/prepared", "train")
    chosen = np.arange(images) % len(digits.labels)
    return params, model, mnist.Digits(digits.images[chosen], digits.labels[chosen])


def optimizer(version: str, model, images: int):
    """The optimizer of a version that trains on so many images, less those that validate.

    A schedule of the learning rate ends with the epochs of its block, however many are run.
    """
    from stages import network
    from stages.common.params import trained_on

    return network.optimizer(version, model, math.ceil(trained_on(images, model.validation_split) / model.batch_size))


def trainings(params, name: str, model, count: int) -> Iterator[tuple]:
    """Train a block as the project does, with `count` seeds from that of params.yaml on, in a process that is set up for it.

    Yields for each what evaluating the test images gives, their labels, and the `seconds` and `cpu_seconds` of the training.
    """
    from stages import mnist
    from stages.common import paths
    from stages.compute.evaluation import compile_evaluate
    from stages.train import loop

    train, test = (mnist.load(ROOT / paths.PREPARED, split) for split in ("train", "test"))
    for seed in range(params.seed, params.seed + count):
        start, before = time.perf_counter(), time.process_time()
        network, _ = loop.train(name, model, train, seed)
        cost = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - before}
        yield compile_evaluate(network)(test.images, test.labels), test.labels, cost


def this_project(version: str, images: int, tick: Callable, instructions: str = "avx2") -> None:
    """The training loop of this project."""
    from stages import compute, network
    from stages.train import loop

    params, model, digits = read(version, images)
    compute.set_up(params.model_copy(update={"instructions": instructions}))
    built = network.build(version, model, digits.images.shape[1:], 10)
    made = optimizer(version, model, images)
    loop.fit(built, made, digits, model, params.seed, on_epoch_end=lambda history: tick(history[-1]))


native = partial(this_project, instructions="native")


def keras_fit(version: str, images: int, tick: Callable, **compile_arguments) -> None:
    """Keras' `fit` as the tutorial writes it."""
    unpin()
    import keras

    from stages import network

    params, model, digits = read(version, images)
    keras.utils.set_random_seed(params.seed)
    built = network.build(version, model, digits.images.shape[1:], 10)
    built.compile(
        optimizer(version, model, images), "sparse_categorical_crossentropy", metrics=["accuracy"], **compile_arguments
    )
    built.fit(
        digits.images, digits.labels, model.batch_size, EPOCHS, verbose=0, validation_split=model.validation_split,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda _, row: tick(row))],
    )  # fmt: skip


keras_fit_xla = partial(keras_fit, steps_per_execution=100, jit_compile=True)  # its own settings for speed


def pytorch(version: str, images: int, tick: Callable) -> None:
    """A plain PyTorch loop over tensors held in memory."""
    import torch
    from torch import nn

    _, model, digits = read(version, images)
    inputs, labels = torch.tensor(digits.images).permute(0, 3, 1, 2).contiguous(), torch.tensor(digits.labels).long()
    network = nn.Sequential(*torch_layers(model, nn))
    optimizer = torch.optim.SGD(network.parameters(), model.optimizer.learning_rate)
    loss_of, split = nn.CrossEntropyLoss(), int(images * (1 - model.validation_split))
    for _ in range(EPOCHS):
        network.train()
        for chosen in torch.randperm(split).split(model.batch_size):
            optimizer.zero_grad()
            loss_of(network(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for chosen in torch.arange(split, images).split(500):
                loss_of(network(inputs[chosen]), labels[chosen]).item()
        tick()


def torch_layers(model, nn) -> list:
    """The layers of the three shipped versions in PyTorch; softmax is part of its loss."""
    layers, features, side = [], 1, 28
    for layer in model.layers:
        arguments = layer.arguments
        if layer.name == "Conv2D":
            layers.append(nn.Conv2d(features, arguments["filters"], arguments["kernel_size"]))
            features, side = arguments["filters"], side - arguments["kernel_size"] + 1
        elif layer.name == "MaxPooling2D":
            layers.append(nn.MaxPool2d(2))
            side //= 2
        elif layer.name == "Flatten":
            layers.append(nn.Flatten())
            features *= side * side
        elif layer.name == "BatchNormalization":
            layers.append(nn.BatchNorm1d(features, eps=1e-3, momentum=0.01))
        elif layer.name == "Dense":
            layers.append(nn.Linear(features, arguments["units"]))
            features = arguments["units"]
        else:
            raise ValueError(f"{layer.name} has no counterpart here")
        activation = {"relu": nn.ReLU, "selu": nn.SELU, "sigmoid": nn.Sigmoid}.get(arguments.get("activation"))
        layers += [activation()] if activation else []
    return layers
