"""ResNet50's layers, as they are known without TensorFlow."""

import keras

from stages.resnet50 import layers


def plain(name: str) -> str:
    """A layer's name, without the number that Keras gives to all input layers but the first of a process."""
    return "input_layer" if name.startswith("input_layer") else name


def test_the_layers_are_those_that_keras_lists():
    rows = layers()
    network = keras.applications.ResNet50(weights=None)
    expected = []
    for layer in network.layers:
        tensors = [tensor for node in layer._inbound_nodes for tensor in node.input_tensors]
        inputs = {plain(tensor._keras_history.operation.name) for tensor in tensors}
        shape = tuple(layer.output.shape[1:])
        expected.append((plain(layer.name), type(layer).__name__, shape, inputs, layer.count_params()))
    assert [(row.name, row.type, row.output, set(row.inputs), row.parameters) for row in rows] == expected
    assert sum(row.parameters for row in rows) == network.count_params() == 25_636_712
    assert sum(row.trained for row in rows) == 25_583_592
