"""params.yaml: what a valid parameter is, and messages that a person can act on."""

import difflib
import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from stages.common import cli, keras_names
from stages.common.cli import UserError
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


class Strict(BaseModel):
    """Base of all blocks: no unknown keys, no silent conversions ("3" is not 3), nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _refuse(*problems: str, below: tuple[str, ...] = ("",)) -> PydanticCustomError:
    """An error with one text for each problem, and for each the rest of its key path below the block's own."""
    return PydanticCustomError("params", "{problems}", {"problems": list(zip(below, problems, strict=True))})


def _check_name(name: Any, kind: str, allowed: list[str]) -> None:
    if name not in allowed:
        raise _refuse(f"{name!r} is no {kind}{_suggestion(name, allowed)}")


def _check_arguments(package: str, name: str, given: dict[str, Any], below: str = "") -> None:
    if problems := _argument_problems(package, name, given):
        raise _refuse(*problems.values(), below=tuple(f"{below}.{argument}" for argument in problems))


def _argument_problems(package: str, name: str, given: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the arguments given to a Keras class, by argument; Keras itself checks the rest."""
    defaults = keras_names.arguments(package, name)
    problems = {}
    for argument, value in given.items():
        if argument not in defaults:
            problems[argument] = f"unknown argument of {name}{_suggestion(argument, sorted(defaults))}"
        elif problem := _value_problem(argument, value, defaults[argument]):
            problems[argument] = f"is {_shorten(value)}; {problem}"
    missing = [
        argument for argument in defaults if defaults[argument] is keras_names.REQUIRED and argument not in given
    ]
    return problems | dict.fromkeys(missing, f"missing; {name} needs this argument")


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
    if argument in FRACTIONS and not (type(value) in (int, float) and 0 <= value < 1):
        return "allowed: a number of at least 0 and below 1"
    if argument == "padding" and isinstance(default, str) and value not in PADDINGS:
        return "allowed: " + ", ".join(PADDINGS) + _suggestion(value, PADDINGS, listed=False)
    if isinstance(default, bool) and not isinstance(value, bool):
        return "allowed: true, false"
    if type(default) in (int, float, tuple) and any(isinstance(part, str | bool) for part in parts):
        return "allowed: a number, or a list of them"
    if isinstance(default, str) and not isinstance(value, str | None):
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
        return f"not known to Keras{_suggestion(name, [each for each in keras_names.names(package) if each.islower()])}"
    problems = {} if package == "activations" else _argument_problems(package, name, config)
    return next((f"config.{argument} {problem}" for argument, problem in problems.items()), None)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))


def _suggestion(name: Any, allowed: list[str], listed: bool = True) -> str:
    close = difflib.get_close_matches(str(name), allowed, n=1)
    lower = {candidate.lower(): candidate for candidate in allowed}
    best = close[0] if close else lower.get(str(name).lower())
    hint = f"; did you mean {best!r}?" if best else ""
    return (f"; allowed: {', '.join(allowed)}" if listed and len(allowed) <= 40 else "") + hint


class Layer(Strict):
    """One entry of a `layers` list: a Keras layer name alone, or `{Name: {argument: value}}`."""

    name: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, entry: Any) -> dict[str, Any]:
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            raise _refuse(f"{entry!r} is no layer; write `Name` or `Name: {{argument: value}}`")
        (name, arguments), *_ = entry.items()
        if reason := keras_names.REFUSED_LAYERS.get(name):
            raise _refuse(f"the layer {name} is refused: {reason}")
        _check_name(name, "Keras layer (see https://keras.io/api/layers)", keras_names.layers())
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, dict):
            raise _refuse(f"{arguments!r} are no arguments; write `{name}: {{argument: value}}`", below=(f".{name}",))
        _check_arguments("layers", name, arguments, below=f".{name}")
        return {"name": name, "arguments": arguments}


class Optimizer(Strict):
    """A Keras optimizer by name, its learning rate, and any other arguments that it takes."""

    model_config = ConfigDict(extra="allow")

    name: str
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _known_to_keras(self) -> "Optimizer":
        _check_name(self.name, "Keras optimizer", keras_names.optimizers())
        _check_arguments("optimizers", self.name, {"learning_rate": self.learning_rate} | self.model_extra)
        return self


class EarlyStopping(Strict):
    """Arguments of `keras.callbacks.EarlyStopping`."""

    monitor: Literal["loss", "accuracy", "val_loss", "val_accuracy"] = "val_loss"
    patience: Annotated[int, Field(ge=0)] = 0
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    restore_best_weights: bool = False


class Model(Strict):
    """One model version: what it is made of and how it is trained."""

    layers: Annotated[list[Layer], Field(min_length=1)]
    optimizer: Optimizer
    batch_size: Annotated[int, Field(ge=1, le=60_000)] = 32
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stopping: EarlyStopping | None = None

    @field_validator("early_stopping")
    @classmethod
    def _needs_validation(cls, value: EarlyStopping | None, info: ValidationInfo) -> EarlyStopping | None:
        if value and value.monitor.startswith("val_") and info.data.get("validation_split") == 0:
            raise _refuse(f"{value.monitor} needs a validation_split above 0")
        return value


class Inference(Strict):
    """ResNet50 over a folder of pictures."""

    images: Annotated[str, Field(min_length=1)]
    engine: Literal["local", "ray"] = "local"
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    backend: Literal["openvino", "keras"] = "openvino"
    top_k: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]


class Replicates(Strict):
    """How many seeds `make replicates` trains each version with: seed, seed + 1, ..."""

    seeds: Annotated[int, Field(ge=2, le=1000)] = 5


VersionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]


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
    def _no_clash(cls, models: dict[str, Model]) -> dict[str, Model]:
        if "resnet50" in models:
            raise _refuse("the version name resnet50 is taken by the pre-trained network; choose another")
        return models

    @field_validator("models")
    @classmethod
    def _batches_can_be_shared(cls, models: dict[str, Model], info: ValidationInfo) -> dict[str, Model]:
        devices = info.data.get("data_parallel", 1)
        problems = {
            f".{version}.batch_size": f"is {model.batch_size}; allowed: a multiple of data_parallel, which is {devices}"
            for version, model in models.items()
            if model.batch_size % devices
        }
        if problems:
            raise _refuse(*problems.values(), below=tuple(problems))
        return models

    @field_validator("inference")
    @classmethod
    def _openvino_has_the_device(cls, inference: Inference, info: ValidationInfo) -> Inference:
        if inference.backend == "openvino" and info.data.get("device") == "gpu":
            problem = "is 'openvino', which computes on the CPU; with device: gpu allowed: keras"
            raise _refuse(problem, below=(".backend",))
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
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        lines = [line for problem in error.errors(include_url=False) for line in _explain(problem)]
        raise UserError(f"{path}: {len(lines)} problem(s)\n" + "\n".join(f"  {line}" for line in lines)) from None


def _explain(problem: dict[str, Any]) -> list[str]:
    """One line for each thing that is wrong in one of pydantic's problems."""
    location = [part for part in problem["loc"] if part != "[key]"]
    key = _key_path(location) or "the file"
    kind = problem["type"]
    if kind == "params":
        return [f"{key}{below}: {text}" for below, text in problem["ctx"]["problems"]]
    if kind == "extra_forbidden":
        return [f"{key}: unknown key{_suggestion(location[-1], sorted(_block_at(location[:-1]).model_fields))}"]
    if kind == "missing":
        return [f"{key}: missing; add this key"]
    if kind == "string_pattern_mismatch":
        return [f"{key}: not a version name; allowed: letters, digits, '_' and '-', starting with a letter or digit"]
    if kind in ("model_type", "dict_type"):
        return [f"{key}: is {_shorten(problem['input'])}; a block of `key: value` lines is needed"]
    if kind == "too_short":
        return [f"{key}: is {_shorten(problem['input'])}; at least one entry is needed"]
    return [f"{key}: is {_shorten(problem['input'])}; {problem['msg'][0].lower()}{problem['msg'][1:]}"]


def _key_path(location: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _block_at(location: list[str | int]) -> type[BaseModel]:
    """The schema class of the block at this key path."""
    blocks = {
        "inference": Inference,
        "replicates": Replicates,
        "models": Model,
        "early_stopping": EarlyStopping,
        "optimizer": Optimizer,
    }
    without_version = location[:1] + location[2:]  # which may be the name of a block
    return next((blocks[part] for part in reversed(without_version) if part in blocks), Params)


def _shorten(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print a number of more than 4300 digits
        return "a number far too long"
    return text if len(text) <= 60 else f"{text[:57]}..."


if __name__ == "__main__":
    cli.run(lambda: load_params(sys.argv[1]) and None)
