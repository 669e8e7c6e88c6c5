"""params.yaml: what a valid parameter is, and messages that a person can act on."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from stages.common import cli, keras_names, schema
from stages.common.cli import UserError
from stages.common.schema import Strict, refuse, shorten, suggestion
from stages.common.yaml_files import load_yaml

MAX_PARAMS_BYTES = 1 << 18  # far above any real file

# Arguments of Keras layers that are positive whole numbers, alone or one for each dimension.
SIZES = {"units", "filters", "kernel_size", "pool_size", "strides", "dilation_rate", "groups"}
FRACTIONS = {"rate", "dropout", "momentum", "beta_1", "beta_2", "rho"}  # 0 <= value < 1
PADDINGS = ["valid", "same", "causal"]
# Arguments whose names end so are Keras objects: a name, or {class_name: Name, config: {argument: value}}.
OBJECTS = {
    "activation": "activations",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}


STEPS = {"decay_steps", "first_decay_steps", "warmup_steps", "boundaries"}  # of a schedule: these count steps or epochs
RATES = {"initial_learning_rate", "warmup_target", "decay_rate", "values"}  # of a schedule: numbers without a default
KERAS_RANGE = (0, 255)  # the default of `value_range`


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
            problems[str(argument)] = f"unknown argument of {name}{suggestion(argument, sorted(defaults))}"
        elif package == "layers" and value != defaults[argument] and (why := _why_refused(name, argument)):
            problems[argument] = f"is {shorten(value)}, which is refused: {why}"
        elif name in keras_names.WRAPPERS and argument in keras_names.INNER and value is not None:
            problems |= {_path(argument, below): text for below, text in _layer_problems(value).items()}
        elif problem := _value_problem(argument, value, defaults[argument]):
            problems[argument] = f"is {shorten(value)}; {problem}"
    if defaults.get("value_range") == KERAS_RANGE and "value_range" not in given:
        text = "missing; Keras takes the values to be 0 to 255 unless told, and here they are 0 to 1: add [0, 1]"
        problems["value_range"] = text
    missing = [
        argument for argument in defaults if defaults[argument] is keras_names.REQUIRED and argument not in given
    ]
    return problems | dict.fromkeys(missing, f"missing; {name} needs this argument")


def _why_refused(layer: str, argument: str) -> str | None:
    refused = keras_names.REFUSED_ARGUMENTS
    return refused.get(argument) or refused.get(f"{layer}.{argument}")


def _path(*keys: str) -> str:
    return ".".join(filter(None, keys))


def _value_problem(argument: str, value: Any, default: Any) -> str | None:
    """What is wrong with the value of a Keras argument that has this default, or None."""
    parts = value if isinstance(value, list) else [value]
    kind = OBJECTS.get(argument.rpartition("_")[2])
    if value is default is None:
        return None
    if kind and value is not None:
        return _object_problem(kind, value)
    if argument in SIZES and not (parts and all(type(part) is int and part >= 1 for part in parts)):
        return "allowed: a whole number of at least 1, or a list of them"
    if argument in FRACTIONS and not (_is_number(value) and 0 <= value < 1):
        return "allowed: a number of at least 0 and below 1"
    if argument == "padding" and isinstance(default, str) and value not in PADDINGS:
        return "allowed: " + ", ".join(PADDINGS) + suggestion(value, PADDINGS, listed=False)
    if argument == "value_range" and default == KERAS_RANGE and value != [0, 1]:
        return "allowed: [0, 1], what the images hold"
    if argument in ("x_factor", "y_factor") and not isinstance(value, list):  # of RandomShear
        return "allowed: a list [lowest, highest]; Keras saves a number as one that it cannot load"
    if isinstance(default, bool) and not isinstance(value, bool):
        return "allowed: true, false"
    if type(default) in (int, float, tuple) and any(isinstance(part, str | bool) for part in parts):
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
        return "allowed: a name" + ("" if package == "activations" else ", or {class_name: Name, config: {...}}")
    if name not in keras_names.names(package):
        return f"not known to Keras{suggestion(name, [each for each in keras_names.names(package) if each.islower()])}"
    problems = {} if package == "activations" else _argument_problems(package, name, config)
    return next((f"config.{argument} {problem}" for argument, problem in problems.items()), None)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _layer_problems(entry: Any) -> dict[str, str]:
    """What is wrong with an entry of a `layers` list, or of a layer around it, by the rest of its key path."""
    entry = {entry: None} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or len(entry) != 1:
        return {"": f"{shorten(entry)} is no layer; write `Name` or `Name: {{argument: value}}`"}
    (name, arguments), *_ = entry.items()
    if reason := keras_names.REFUSED_LAYERS.get(name):
        return {"": f"the layer {name} is refused: {reason}"}
    if name not in keras_names.layers():
        near = suggestion(name, keras_names.layers())
        return {"": f"{name!r} is no Keras layer (see https://keras.io/api/layers){near}"}
    if not isinstance(arguments, dict | None):
        return {name: f"{shorten(arguments)} are no arguments; write `{name}: {{argument: value}}`"}
    problems = _argument_problems("layers", name, arguments or {})
    return {_path(name, argument): text for argument, text in problems.items()}


class Layer(Strict):
    """One entry of a `layers` list: a Keras layer name alone, or `{Name: {argument: value}}`.

    The arguments are those of the file: an inner layer (see `keras_names.INNER`) is such an entry, too.
    """

    name: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, entry: Any) -> dict[str, Any]:
        if problems := _layer_problems(entry):
            raise refuse(problems)
        (name, arguments), *_ = ({entry: None} if isinstance(entry, str) else entry).items()
        return {"name": name, "arguments": arguments or {}}


class Schedule(Strict):
    """A learning rate that changes with the steps: one of `keras.optimizers.schedules` by name, and its arguments."""

    model_config = ConfigDict(extra="allow")

    name: str
    unit: Literal["steps", "epochs"] = "steps"  # of the arguments in STEPS

    def arguments(self, steps_per_epoch: int | None) -> dict[str, Any]:
        """The arguments as Keras takes them, in steps; `steps_per_epoch` is needed where the unit is epochs."""
        converters = dict.fromkeys(RATES, float)  # Keras takes the type of a rate such as 0 for that of the weights
        if self.unit == "epochs":
            converters |= dict.fromkeys(STEPS, lambda epochs: round(epochs * steps_per_epoch))

        def converted(key: str, value: Any) -> Any:
            if isinstance(value, list):
                return [converted(key, each) for each in value]
            return converters[key](value) if key in converters else value

        return {key: converted(key, value) for key, value in self.model_extra.items()}


def _schedule_problems(block: dict[str, Any]) -> dict[str, str]:
    """What is wrong with a schedule, by key."""
    unit, given = block.get("unit", "steps"), {key: block[key] for key in block if key != "unit"}
    problems = _named_problems("optimizers.schedules", "Keras schedule", keras_names.schedules(), given)
    if unit not in ("steps", "epochs"):
        problems["unit"] = f"is {shorten(unit)}; allowed: steps, epochs"
    for key in given.keys() & (STEPS | RATES) - problems.keys():
        several, whole = key in ("boundaries", "values"), key in STEPS and unit == "steps"
        parts = given[key] if several else [given[key]]
        fits = isinstance(parts, list) and all(_is_number(part) and part >= 0 for part in parts)
        if not fits or (whole and not all(type(part) is int for part in parts)):
            kind = f"a {'whole ' * whole}number{f' of {unit}' * (key in STEPS)} of at least 0"
            problems[key] = f"is {shorten(given[key])}; allowed: {'a list, each entry ' * several}{kind}"
        elif key == "boundaries" and parts != sorted(set(parts)):
            problems[key] = f"is {shorten(parts)}; allowed: a list that grows"
    return problems


class Optimizer(Strict):
    """A Keras optimizer by name, its learning rate, and any other arguments that it takes."""

    model_config = ConfigDict(extra="allow")

    name: str
    learning_rate: float | Schedule

    @model_validator(mode="before")
    @classmethod
    def _known_to_keras(cls, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        rate = block.get("learning_rate")
        others = {key: value for key, value in block.items() if key != "learning_rate"}
        problems = _named_problems("optimizers", "Keras optimizer", keras_names.optimizers(), others)
        if "learning_rate" not in block:
            problems["learning_rate"] = "missing; add this key"
        elif isinstance(rate, dict):
            problems |= {_path("learning_rate", key): text for key, text in _schedule_problems(rate).items()}
        elif not (_is_number(rate) and rate > 0):
            problems["learning_rate"] = f"is {shorten(rate)}; allowed: a number above 0, or a schedule {{name: ...}}"
        if problems:
            raise refuse(problems)
        return block


class Monitor(Strict):
    """What is watched after each epoch, and for how long it may fail to improve by `min_delta`."""

    monitor: Literal["loss", "accuracy", "val_loss", "val_accuracy"] = "val_loss"
    patience: Annotated[int, Field(ge=0)] = 0
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @property
    def mode(self) -> str:
        """`min` or `max`: which way is better."""
        return "min" if self.monitor.endswith("loss") else "max"


class EarlyStopping(Monitor):
    """Arguments of `keras.callbacks.EarlyStopping`."""

    restore_best_weights: bool = False
    start_from_epoch: Annotated[int, Field(ge=0)] = 0
    baseline: Annotated[float, Field(allow_inf_nan=False)] | None = None


class ReduceLROnPlateau(Monitor):
    """Arguments of `keras.callbacks.ReduceLROnPlateau`."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 10
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    cooldown: Annotated[int, Field(ge=0)] = 0
    min_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


Digit = Annotated[int, Field(ge=0, le=9)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Model(Strict):
    """One model version: what it is made of and how it is trained."""

    layers: Annotated[list[Layer], Field(min_length=1)]
    optimizer: Optimizer
    batch_size: Annotated[int, Field(ge=1, le=60_000)] = 32
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weight: dict[Digit, Weight] = Field({})  # of each digit's examples in the training loss; others count 1
    early_stopping: EarlyStopping | None = None
    reduce_lr_on_plateau: ReduceLROnPlateau | None = None

    @field_validator("early_stopping", "reduce_lr_on_plateau")
    @classmethod
    def _needs_validation(cls, value: Monitor | None, info: ValidationInfo) -> Monitor | None:
        if value and value.monitor.startswith("val_") and info.data.get("validation_split") == 0:
            raise refuse(f"{value.monitor} needs a validation_split above 0")
        return value

    @field_validator("reduce_lr_on_plateau")
    @classmethod
    def _sets_the_learning_rate_alone(cls, value: Monitor | None, info: ValidationInfo) -> Monitor | None:
        if value and "optimizer" in info.data and isinstance(info.data["optimizer"].learning_rate, Schedule):
            raise refuse("the optimizer's learning_rate follows a schedule already; keep one of the two")
        return value


class Inference(Strict):
    """ResNet50 over a folder of images."""

    images: Annotated[str, Field(min_length=1)]
    engine: Literal["local", "ray"] = "local"
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    backend: Literal["openvino", "keras"] = "openvino"
    top_k: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]


class Replicates(Strict):
    """How many seeds `make replicates` trains each version with: seed, seed + 1, ..."""

    seeds: Annotated[int, Field(ge=2, le=1000)] = 5


RESNET50 = ("resnet50", "resnet50_predictions")  # metrics/<name>.json is a file of the pre-trained network's


def _version_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        allowed = "1 to 100 letters, digits, '_' and '-', starting with a letter or digit"
        raise refuse(f"not a version name; allowed: {allowed}")
    if name.lower() in RESNET50:
        raise refuse(f"the name is taken: metrics/{name.lower()}.json is of the pre-trained network; choose another")
    return name


VersionName = Annotated[str, AfterValidator(_version_name)]


class ComputeSettings(Strict):
    """What decides, beside the work itself, how it is computed."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    instructions: Literal["avx2", "native"] = "avx2"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    data_parallel: Annotated[int, Field(ge=1, le=1024)] = 1


class Params(ComputeSettings):
    """The whole of params.yaml."""

    models: Annotated[dict[VersionName, Model], Field(min_length=1)]
    inference: Inference
    replicates: Replicates = Replicates()

    def model(self, version: str) -> Model:
        """The block `models.<version>`; a UserError lists the names that there are."""
        if version not in self.models:
            raise UserError(f"--version {version}: no such block under `models:`; there are {', '.join(self.models)}")
        return self.models[version]

    @field_validator("models")
    @classmethod
    def _differ_by_more_than_case(cls, models: dict[str, Model]) -> dict[str, Model]:
        first = {}
        problems = {
            version: f"some file systems take it for {other!r}, another version; choose another name"
            for version in models
            if (other := first.setdefault(version.lower(), version)) != version
        }
        if problems:
            raise refuse(problems)
        return models

    @field_validator("models")
    @classmethod
    def _batches_can_be_shared(cls, models: dict[str, Model], info: ValidationInfo) -> dict[str, Model]:
        devices = info.data.get("data_parallel", 1)
        problems = {
            f"{version}.batch_size": f"is {model.batch_size}; allowed: a multiple of data_parallel, which is {devices}"
            for version, model in models.items()
            if model.batch_size % devices
        }
        if problems:
            raise refuse(problems)
        return models

    @field_validator("inference")
    @classmethod
    def _openvino_has_the_device(cls, inference: Inference, info: ValidationInfo) -> Inference:
        if inference.backend == "openvino" and info.data.get("device") == "gpu":
            problem = "is 'openvino', which computes on the CPU only; with device: gpu write keras"
            raise refuse({"backend": problem})
        return inference


def load_params(path: Path | str) -> Params:
    """Read and check the parameter file as a whole.

    Raises:
        UserError: with one line for each problem: the path of the key, what is wrong, what is allowed, and the
            nearest valid name for a typo; also for a missing or unreadable file and for YAML syntax, where duplicate
            keys count as errors.
    """
    try:
        data = load_yaml(path, MAX_PARAMS_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's root or name it with --params") from None
    return schema.validate(path, data, Params)


if __name__ == "__main__":
    cli.run(lambda: load_params(sys.argv[1]) and None)
