"""Each of Keras' optimizers with each of its arguments, beside Keras' own `fit`."""

import pytest

from stages import mnist
from stages.common import keras_names
from tests.train.test_loop import fit, fit_with_keras, version

pytestmark = pytest.mark.slow

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


CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")  # of which Keras takes one at a time


def changed(name: str) -> dict[str, object]:
    """Each argument of an optimizer that can be given, with another value than its default."""
    made = {}
    for argument, default in keras_names.arguments("optimizers", name).items():
        if argument in ("learning_rate", "name"):  # params.yaml's `name` is that of the class
            continue
        if argument in VALUES:
            made[argument] = VALUES[argument]
        elif isinstance(default, bool):
            made[argument] = not default
        elif isinstance(default, int | float):
            made[argument] = default / 2 or 0.5
    return made


def cases() -> list[tuple[str, list[str]]]:
    """(optimizer, arguments that are changed): none, and each in one of three groups, with one way to clip."""
    made = []
    for name in keras_names.optimizers():
        others = sorted(changed(name).keys() - set(CLIPS))
        made += [(name, []), *((name, [clip, *others[number::3]]) for number, clip in enumerate(CLIPS))]
    return made


@pytest.mark.parametrize(("name", "arguments"), cases(), ids=lambda each: each if type(each) is str else "+".join(each))
def test_losses_are_those_of_fit(name, arguments, digits):
    """The same start and order of examples give the same mean loss of each of two epochs of four steps, to rounding."""
    values = changed(name)
    needed = {key: value for each in arguments for key, value in NEEDS.get(each, {}).items()}
    optimizer = {"name": name, "learning_rate": 0.01} | needed | {each: values[each] for each in arguments}
    model = version(*LAYERS, optimizer=optimizer, validation_split=0.0)
    small = mnist.Digits(digits.images[:128], digits.labels[:128])
    histories = fit(model, small)[1], fit_with_keras(model, small, eagerly=True)[1]
    ours, theirs = ([row["loss"] for row in history] for history in histories)
    assert ours == pytest.approx(theirs, rel=1e-4)
