"""The summary of ResNet50 that is made without TensorFlow."""

import keras
import pytest

from stages.common.cli import UserError
from stages.report.resnet50_summary import summary


def plain(name: str) -> str:
    """A layer's name, without the number that Keras gives to all input layers but the first of a process."""
    return "input_layer" if name.startswith("input_layer") else name


def test_it_is_what_keras_lists(resnet50_folder):
    rows = summary(resnet50_folder / "resnet50_weights.h5")
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


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"weights\.h5.*dvc repro"):
        summary(path)
