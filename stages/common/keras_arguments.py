"""What is wrong with what params.yaml asks of Keras: a layer, an optimizer or a schedule by name, and its arguments."""

import re
import sys
from typing import Any

from stages.common import keras_names
from stages.common.keras_names import REFUSED_ACTIVATIONS, REFUSED_ARGUMENTS
from stages.common.schema import key_path, shorten, suggestion

# Arguments of Keras layers that are positive whole numbers, alone or one for each dimension.
SIZES = {"units", "filters", "kernel_size", "pool_size", "strides", "dilation_rate", "groups"}
ALSO_ALLOWED = {
    "GroupNormalization.groups": -1,  # a group for each channel
    "Normalization.axis": None,  # one mean and one variance for all
}
FRACTIONS = {"rate", "dropout", "momentum", "beta_1", "beta_2", "rho"}  # 0 <= value < 1
PADDINGS = ["valid", "same", "causal"]
# Arguments whose names end so are Keras objects: a name, or {class_name: Name, config: {argument: value}}.
OBJECTS = {"activation", "initializer", "regularizer", "constraint"}
STEPS = {"decay_steps", "first_decay_steps", "warmup_steps", "boundaries"}  # of a schedule: these count steps or epochs
# Of a schedule: numbers of at least 0.
RATES = {
    "alpha", "decay_rate", "end_learning_rate", "initial_learning_rate", "m_mul", "power", "t_mul", "values", "warmup_target",
}  # fmt: skip
# Of an optimizer: numbers, though Keras' default is None, and the least of each; a whole number if that is one.
LEAST = {
    "clipnorm": 0.0, "clipvalue": 0.0, "ema_overwrite_frequency": 1, "global_clipnorm": 0.0,
    "gradient_accumulation_steps": 2, "loss_scale_factor": sys.float_info.min, "weight_decay": 0.0,
}  # fmt: skip
KERAS_RANGE = (0, 255)  # the default of `value_range`
# Of layers that Keras' `adapt` would fit to the data: what they need instead, because no stage calls it.
ADAPTED = {"Discretization": ["bin_boundaries"], "Normalization": ["mean", "variance"]}
# Python's numbers, tuples and None, which YAML takes for texts; but for TEXTS, no argument of Keras is a text that starts so.
TEXTS = ("name", "exclude_layers")
PYTHON = re.compile(r"None$|\(|[-+]?\.?\d")
FORM, OBJECT = "write `Name` or `Name: {argument: value}`", "{class_name: Name, config: {argument: value}}"


def _named_problems(package: str, kind: str, allowed: list[str], block: dict[str, Any]) -> dict[str, str]:
    """What is wrong with a block `{name: Class, argument: value, ...}`, by key."""
    name, given = block.get("name"), {key: block[key] for key in block if key != "name"}
    if name in allowed:
        return _argument_problems(package, name, given)
    hints = {key: suggestion(key, ["name", "learning_rate"], listed=False) for key in given if key != "learning_rate"}
    unknown = {str(key): f"unknown key{hint}" for key, hint in hints.items() if hint}
    wrong = f"{shorten(name)} is no {kind}{suggestion(name, allowed)}" if "name" in block else "missing; add this key"
    return {"name": wrong} | unknown


def _argument_problems(package: str, name: str, given: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the arguments given to a Keras class, by argument; Keras itself checks the rest."""
    defaults = keras_names.arguments(package, name)
    problems = {}
    for argument, value in given.items():
        if argument not in defaults:
            why = keras_names.IMPLIED.get(argument)
            near = f": {why}" if why else suggestion(argument, sorted(defaults))
            problems[str(argument)] = f"unknown argument of {name}{near}"
        elif _same(value, defaults[argument]) or value == ALSO_ALLOWED.get(f"{name}.{argument}", keras_names.REQUIRED):
            continue
        elif why := REFUSED_ARGUMENTS.get(argument) or REFUSED_ARGUMENTS.get(f"{name}.{argument}"):
            problems[argument] = f"is {shorten(value)}, which is refused: {why}"
        elif name in keras_names.WRAPPERS and argument in keras_names.INNER and value is not None:
            problems |= {key_path(argument, below): text for below, text in layer_problems(value).items()}
        elif problem := _value_problem(argument, value, defaults[argument]):
            problems[argument] = f"is {shorten(value)}; {problem}"
    if defaults.get("value_range") == KERAS_RANGE and "value_range" not in given:
        text = "missing; Keras takes the values to be 0 to 255 unless told, and here they are 0 to 1: add [0, 1]"
        problems["value_range"] = text
    unfitted = [key for key in ADAPTED.get(name, ()) if given.get(key) is None]
    problems |= dict.fromkeys(unfitted, f"missing; {name} needs this argument, because no stage fits it to the images")
    missing = [key for key, default in defaults.items() if default is keras_names.REQUIRED and key not in given]
    return problems | dict.fromkeys(missing, f"missing; {name} needs this argument")


def _same(value: Any, default: Any) -> bool:
    """Whether an argument is given Keras' own default: 1 for 1.0, a list for a tuple; KERAS_RANGE is right for no image here."""
    listed = list(default) if isinstance(default, tuple) else default
    alike = type(value) is type(listed) or (type(value), type(listed)) == (int, float)
    return alike and value == listed and default != KERAS_RANGE


def _value_problem(argument: str, value: Any, default: Any) -> str | None:
    """What is wrong with the value of a Keras argument that has this default, or None."""
    parts = value if isinstance(value, list) else [value]
    kind = argument.rpartition("_")[2]
    if argument not in TEXTS and any(isinstance(part, str) and PYTHON.match(part) for part in parts):
        return "YAML takes it for a text; write 0.5 for 1/2, [3, 3] for (3, 3), null for None, and no quotes"
    if kind in OBJECTS and value is not None:
        return _object_problem(f"{kind}s", value)
    if argument == "name" and not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value)):
        return "allowed: letters, digits, '_', '.' and '-', starting with a letter or digit"
    if argument in LEAST and value is not None and not _is_number(value, LEAST[argument]):
        return f"allowed: {_number_of_at_least(LEAST[argument])}"
    if argument in SIZES and not (parts and all(_is_number(part, 1) for part in parts)):
        return f"allowed: {_number_of_at_least(1)}, or a list of them"
    if argument in FRACTIONS and not (_is_number(value, 0.0) and value < 1):
        return "allowed: a number of at least 0 and below 1"
    if argument == "padding" and isinstance(default, str) and value not in PADDINGS:
        return "allowed: " + ", ".join(PADDINGS) + suggestion(value, PADDINGS, listed=False)
    if argument == "value_range" and default == KERAS_RANGE and value != [0, 1]:
        return "allowed: [0, 1], what the images hold"
    if argument in ("x_factor", "y_factor") and not isinstance(value, list):  # of RandomShear
        return "allowed: a list [lowest, highest]; Keras saves a number as one that it cannot load"
    if isinstance(default, bool) and not isinstance(value, bool):
        return "allowed: true, false"
    if type(default) in (int, float, tuple) and any(isinstance(part, str | bool | None) for part in parts):
        return "allowed: a number, or a list of them"
    if isinstance(default, str) and not (isinstance(value, str | None) or (default == "auto" and type(value) is bool)):
        return "allowed: a text"
    return None if _is_plain(value) else "allowed: texts, finite numbers, true, false, null, and lists of them"


def _object_problem(package: str, value: Any) -> str | None:
    """What is wrong with the value of an argument that is an activation, initializer, regularizer or constraint."""
    name, config = value, {}
    if isinstance(value, dict) and value.keys() <= {"class_name", "config"} and package != "activations":
        name, config = value.get("class_name"), value.get("config", {})
    if not isinstance(name, str) or not isinstance(config, dict):
        return "allowed: a name" + ("" if package == "activations" else f", or {OBJECT}")
    if package == "activations" and name in REFUSED_ACTIVATIONS:
        return f"refused: {REFUSED_ACTIVATIONS[name]}"
    if name not in keras_names.names(package):
        allowed = [each for each in keras_names.names(package) if each.islower() and each not in REFUSED_ACTIVATIONS]
        near = suggestion(_called(name), allowed)
        return f"not known to Keras{near}" + ("; with arguments write " + OBJECT) * ("(" in name)
    problems = {} if package == "activations" else _argument_problems(package, name, config)
    return next((f"config.{argument} {problem}" for argument, problem in problems.items()), None)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, bool) or _is_number(value)


def _is_number(value: Any, least: float = -sys.float_info.max) -> bool:
    """Whether it is a number of at least `least` that a float can hold, and a whole one if `least` is one."""
    return type(value) in {int, type(least)} and least <= value <= sys.float_info.max


def _number_of_at_least(least: float, of: str = "") -> str:
    """What such a number is called; `of` says what it counts."""
    number = f"a {'whole ' * (type(least) is int)}number{of}"
    return f"{number} above 0" if least == sys.float_info.min else f"{number} of at least {least:g}"


def _called(name: Any) -> str:
    """What Python's `Name(argument)` calls."""
    return str(name).partition("(")[0]


def layer_problems(entry: Any) -> dict[str, str]:
    """What is wrong with an entry of a `layers` list, or of a layer around it, by the rest of its key path."""
    entry = {entry: None} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or len(entry) != 1:
        return {"": f"{shorten(entry)} is no layer; {FORM}"}
    (name, arguments), *_ = entry.items()
    if reason := keras_names.REFUSED_LAYERS.get(name):
        return {"": f"the layer {name} is refused: {reason}"}
    if name not in keras_names.layers():
        near = suggestion(_called(name).rpartition(".")[2], keras_names.layers())
        return {"": f"{name!r} is no Keras layer (see https://keras.io/api/layers); {FORM}{near}"}
    if not isinstance(arguments, dict | None):
        return {name: f"{shorten(arguments)} are no arguments; write `{name}: {{argument: value}}`"}
    problems = _argument_problems("layers", name, arguments or {})
    return {key_path(name, argument): text for argument, text in problems.items()}


def _schedule_problems(block: dict[str, Any]) -> dict[str, str]:
    """What is wrong with a schedule, by key."""
    unit, given = block.get("unit", "steps"), {key: block[key] for key in block if key != "unit"}
    problems = _named_problems("optimizers.schedules", "Keras schedule", keras_names.schedules(), given)
    if unit not in ("steps", "epochs"):
        problems["unit"] = f"is {shorten(unit)}; allowed: steps, epochs"
    left = {key for key in given.keys() & (STEPS | RATES) if key != "warmup_target" or given[key] is not None}
    for key in sorted(left - problems.keys()):
        several = key in ("boundaries", "values")
        least = 0 if key in STEPS and unit == "steps" else 0.0
        parts = given[key] if several else [given[key]]
        if not (isinstance(parts, list) and all(_is_number(part, least) for part in parts)):
            kind = _number_of_at_least(least, f" of {unit}" * (key in STEPS))
            problems[key] = f"is {shorten(given[key])}; allowed: {'a list, each entry ' * several}{kind}"
        elif key == "boundaries" and parts != sorted(set(parts)):
            problems[key] = f"is {shorten(parts)}; allowed: a list that grows"
    return problems


def optimizer_problems(block: dict[str, Any]) -> dict[str, str]:
    """What is wrong with an `optimizer` block, by the rest of its key path."""
    rate = block.get("learning_rate")
    others = {key: value for key, value in block.items() if key != "learning_rate"}
    problems = _named_problems("optimizers", "Keras optimizer", keras_names.optimizers(), others)
    if "learning_rate" not in block:
        problems["learning_rate"] = "missing; add this key"
    elif isinstance(rate, dict):
        problems |= {key_path("learning_rate", key): text for key, text in _schedule_problems(rate).items()}
    elif not (_is_number(rate) and rate > 0):
        problems["learning_rate"] = f"is {shorten(rate)}; allowed: a number above 0, or a schedule {{name: ...}}"
    return problems
