"""Each of Keras' optimizers with each of its arguments, beside Keras' own `fit`."""

import pytest

from stages import mnist
from stages.common import keras_names
from tests.train.test_loop import fit, fit_with_keras, version

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tensorflow")]

LAYERS = ["Flatten", {"Dense": {"units": 8, "activation": "relu"}}, {"Dense": {"units": 10, "activation": "softmax"}}]
# Values that differ from the default and change what is computed. A switch is turned over, any other number is halved.
VALUES = {
    "loss_scale_factor": 1024.0,
    "gradient_accumulation_steps": 2,
    "clipnorm": 0.01,
    "clipvalue": 0.001,
    "global_clipnorm": 0.01,
    "weight_decay": 0.1,
    "ema_overwrite_frequency": 3,
    "momentum": 0.9,
    "clip_threshold": 0.01,
    "warmup_steps": 4,
    "exclude_layers": ["dense"],
    "exclude_embeddings": False,
    "muon_a": 3.0,
    "muon_b": -4.7,
    "ns_steps": 3,
}
NEEDS = {  # an argument that works only with another one
    "ema_momentum": {"use_ema": True},
    "ema_overwrite_frequency": {"use_ema": True},
    "nesterov": {"momentum": 0.9},
}


def cases() -> list[tuple[str, str, dict]]:
    """(optimizer, argument, arguments): each with its defaults, then with one changed at a time."""
    made = []
    for name in keras_names.optimizers():
        arguments = keras_names.arguments("optimizers", name)
        made.append((name, "", {}))
        for argument, default in arguments.items():
            if argument in ("learning_rate", "name"):  # params.yaml's `name` is that of the class
                continue
            if argument in VALUES:
                value = VALUES[argument]
            elif isinstance(default, bool):
                value = not default
            elif isinstance(default, int | float):
                value = default / 2 or 0.5
            else:
                value = default  # left out below where it says nothing
            if value is not None:
                made.append((name, argument, {argument: value} | NEEDS.get(argument, {})))
    return made


@pytest.mark.parametrize(
    ("name", "argument", "arguments"), cases(), ids=lambda value: value if type(value) is str else ""
)
def test_losses_are_those_of_fit(name, argument, arguments, digits):
    """The same start and order of examples give the same mean loss of each of two epochs of four steps, to rounding."""
    optimizer = {"name": name, "learning_rate": 0.01} | arguments
    model = version(*LAYERS, optimizer=optimizer, validation_split=0.0)
    small = mnist.Digits(digits.images[:128], digits.labels[:128])
    histories = fit(model, small)[1], fit_with_keras(model, small, eagerly=True)[1]
    ours, theirs = ([row["loss"] for row in history] for history in histories)
    assert ours == pytest.approx(theirs, rel=1e-4)
