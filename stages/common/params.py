"""params.yaml: what a valid parameter is, and messages that a person can act on."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from stages.common import cli, paths, schema
from stages.common.cli import UserError
from stages.common.keras_arguments import RATES, STEPS, layer_problems, optimizer_problems
from stages.common.schema import Strict, refuse
from stages.common.yaml_files import load_yaml

TRAINING_IMAGES, CLASSES = 60_000, 10  # that MNIST has


class Layer(Strict):
    """One entry of a `layers` list: a Keras layer name alone, or `{Name: {argument: value}}`.

    The arguments are those of the file: an inner layer (see `keras_names.INNER`) is such an entry, too.
    """

    name: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, entry: Any) -> dict[str, Any]:
        refuse(layer_problems(entry))
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
            return converters[key](value) if key in converters and value is not None else value

        return {key: converted(key, value) for key, value in self.model_extra.items()}


class Optimizer(Strict):
    """A Keras optimizer by name, its learning rate, and any other arguments that it takes."""

    model_config = ConfigDict(extra="allow")

    name: str
    learning_rate: float | Schedule

    @model_validator(mode="before")
    @classmethod
    def _known_to_keras(cls, block: Any) -> Any:
        if isinstance(block, dict):
            refuse(optimizer_problems(block))
        return block


class Monitor(Strict):
    """What is watched after each epoch, and for how long it may fail to improve by `min_delta`."""

    monitor: Literal["loss", "accuracy", "val_loss", "val_accuracy"] = "val_loss"
    patience: Annotated[int, Field(ge=0)] = 0
    min_delta: Annotated[float, Field(ge=0)] = 0.0

    @property
    def mode(self) -> str:
        """`min` or `max`: which way is better."""
        return "min" if self.monitor.endswith("loss") else "max"


class EarlyStopping(Monitor):
    """Arguments of `keras.callbacks.EarlyStopping`."""

    restore_best_weights: bool = False
    start_from_epoch: Annotated[int, Field(ge=0)] = 0
    baseline: float | None = None


class ReduceLROnPlateau(Monitor):
    """Arguments of `keras.callbacks.ReduceLROnPlateau`."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 10
    min_delta: Annotated[float, Field(ge=0)] = 1e-4
    cooldown: Annotated[int, Field(ge=0)] = 0
    min_lr: Annotated[float, Field(ge=0)] = 0.0


Digit = Annotated[int, Field(ge=0, le=CLASSES - 1)]


class Model(Strict):
    """One model version: what it is made of and how it is trained."""

    layers: Annotated[list[Layer], Field(min_length=1)]
    optimizer: Optimizer
    batch_size: Annotated[int, Field(ge=1, le=TRAINING_IMAGES)] = 32
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Of each digit's examples in the training loss; others count 1.
    class_weight: dict[Digit, Annotated[float, Field(ge=0)]] = Field({})
    early_stopping: EarlyStopping | None = None
    reduce_lr_on_plateau: ReduceLROnPlateau | None = None

    @field_validator("validation_split")
    @classmethod
    def _leaves_images(cls, validation_split: float) -> float:
        if not trained_on(TRAINING_IMAGES, validation_split):
            refuse(f"is {validation_split}; it leaves none of the {TRAINING_IMAGES} images to train on")
        return validation_split

    @field_validator("early_stopping", "reduce_lr_on_plateau")
    @classmethod
    def _needs_validation(cls, value: Monitor | None, info: ValidationInfo) -> Monitor | None:
        kept = trained_on(TRAINING_IMAGES, info.data.get("validation_split", 1.0))
        if value and value.monitor.startswith("val_") and kept == TRAINING_IMAGES:
            refuse(f"{value.monitor} needs a validation_split above 0, of at least one image")
        return value

    @field_validator("reduce_lr_on_plateau")
    @classmethod
    def _sets_the_learning_rate_alone(cls, value: Monitor | None, info: ValidationInfo) -> Monitor | None:
        if value and "optimizer" in info.data and isinstance(info.data["optimizer"].learning_rate, Schedule):
            refuse("the optimizer's learning_rate follows a schedule already; keep one of the two")
        return value


def trained_on(examples: int, validation_split: float) -> int:
    """How many of the examples are trained on; those after them validate. Keras' `fit` cuts there, too."""
    return math.floor(examples * (1.0 - validation_split))


class Inference(Strict):
    """ResNet50 over a folder of images."""

    images: Annotated[str, Field(min_length=1)]
    engine: Literal["local", "ray"] = "local"
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    backend: Literal["openvino", "keras"] = "openvino"
    top_k: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]

    @field_validator("images")
    @classmethod
    def _dvc_sees_a_change(cls, images: str) -> str:
        if re.match("https?://", images, re.IGNORECASE):
            refuse(
                "DVC sees a change of the web page, but not of the images behind it; copy them into a folder, or run "
                "`python -m stages.infer --images URL --out FILE`"
            )
        return images


class Replicates(Strict):
    """How many seeds `make replicates` trains each version with: seed, seed + 1, ..."""

    seeds: Annotated[int, Field(ge=2, le=1000)] = 5


def _version_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        allowed = "1 to 100 letters, digits, '_' and '-', starting with a letter or digit"
        refuse(f"not a version name; allowed: {allowed}")
    taken = paths.metrics(name.lower())
    if taken in (paths.RESNET50_METRICS, paths.RESNET50_PREDICTIONS):
        refuse(f"the name is taken: {taken} is of the pre-trained network; choose another")
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
        """The block `models.<version>`; a UserError names those that there are, if they are few, and the nearest."""
        if version not in self.models:
            raise UserError(
                f"params.yaml: models.{version}: no such version{schema.suggestion(version, list(self.models))}"
            )
        return self.models[version]

    @field_validator("models")
    @classmethod
    def _fit_together(cls, models: dict[str, Model], info: ValidationInfo) -> dict[str, Model]:
        problems, first, devices = {}, {}, info.data.get("data_parallel", 1)
        for version, model in models.items():
            if (other := first.setdefault(version.lower(), version)) != version:
                problems[version] = f"some file systems take it for {other!r}, another version; choose another name"
            if model.batch_size % devices:
                text = f"is {model.batch_size}; allowed: a multiple of data_parallel, which is {devices}"
                problems[f"{version}.batch_size"] = text
        refuse(problems)
        return models

    @field_validator("inference")
    @classmethod
    def _openvino_has_the_device(cls, inference: Inference, info: ValidationInfo) -> Inference:
        if inference.backend == "openvino" and info.data.get("device") == "gpu":
            refuse({"backend": "is 'openvino', which computes on the CPU only; with device: gpu write keras"})
        return inference


def load_params(path: Path | str) -> Params:
    """Read and check the parameter file as a whole; UserError as `schema.validate` has it, and for what is no YAML."""
    try:
        data = load_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's root or name it with --params") from None
    return schema.validate(path, data, Params)


def of_version(doc: str) -> tuple[Params, str, Model]:
    """Read the command line of a module for one version: the whole of params.yaml, the version's name and its block."""
    parser = cli.parser(doc)
    parser.add_argument("version", help="name of a block under `models:`")
    args = parser.parse_args()
    params = load_params(args.params)
    return params, args.version, params.model(args.version)
