"""params.yaml: a mistake anywhere stops every stage before it works, with a message that names the key."""

import os
import re
import resource
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.cli import UserError
from stages.common.params import load_params
from stages.common.yaml_files import MAX_BYTES
from tests.conftest import ROOT, little_memory
from tests.tools.run.small import Project

GOOD = """\
seed: 42
threads: 2
models:
  mlp:
    layers:
      - Flatten
      - Dense: {units: 100, activation: sigmoid}
      - Dense: {units: 10, activation: softmax}
    optimizer: {name: SGD, learning_rate: 0.1}
    batch_size: 32
    epochs: 10
    validation_split: 0.05
    early_stopping: {monitor: val_loss, patience: 0}
inference:
  images: data/sample_images
  top_k: 3
  batch_size: 32
"""
MODELS = re.search(r"models:.*(?=inference)", GOOD, re.DOTALL)[0]


@pytest.fixture
def load(tmp_path):
    """`load(old, new)`: what a good file is read as in which `old` is replaced."""

    def load(old: str = "", new: str | bytes = ""):
        assert old in GOOD
        path = tmp_path / "params.yaml"
        path.write_bytes(new if isinstance(new, bytes) else GOOD.replace(old, new, 1).encode())
        return load_params(path)

    return load


def test_the_file_of_the_project_is_valid():
    params = load_params(ROOT / "params.yaml")
    assert {"mlp", "mlp_batchnorm", "cnn"} <= params.models.keys()
    assert [layer.name for layer in params.models["mlp"].layers] == ["Flatten", "Dense", "Dense"]


def test_values_are_read_as_what_they_are_and_defaults_are_filled_in(load):
    params = load("0.1}", "1e-3}")
    assert params.models["mlp"].optimizer.learning_rate == 0.001
    assert params.models["mlp"].layers[1].arguments == {"units": 100, "activation": "sigmoid"}
    assert load("    batch_size: 32\n    epochs", "    epochs").models["mlp"].batch_size == 32
    assert load("    early_stopping: {monitor: val_loss, patience: 0}\n").models["mlp"].early_stopping is None
    assert load("0.1}", "1}").models["mlp"].optimizer.learning_rate == 1.0


def test_two_versions_can_share_a_block(load):
    more = "  wide:\n    <<: *mlp\n    epochs: 3\ninference:"
    models = load(MODELS + "inference:", MODELS.replace("  mlp:", "  mlp: &mlp") + more).models
    assert models["wide"].layers == models["mlp"].layers
    assert (models["mlp"].epochs, models["wide"].epochs) == (10, 3)


def test_a_version_that_is_not_there_is_named_with_those_that_are(load):
    with pytest.raises(UserError, match="params.yaml: models.MLP: no such version; allowed: mlp; did you mean 'mlp'?"):
        load().model("MLP")


def test_the_values_cannot_be_changed_later(load):
    with pytest.raises(ValueError, match="frozen"):
        load().seed = 1


LAYER = "models.mlp.layers.0"
DENSE = "models.mlp.layers.1.Dense"
OPTIMIZER = "models.mlp.optimizer"
RATE = f"{OPTIMIZER}.learning_rate"


BIG = "1" + "0" * 400

# What is put into the good file, and what is said then; `...` stands for any text.
IN_PLACE_OF_FLATTEN = [
    ("Flaten", ": 'Flaten' is no Keras layer ...; did you mean 'Flatten'?"),
    ("flatten", ": 'flatten' is no Keras layer ...; did you mean 'Flatten'?"),
    (
        "layers.Flatten()",
        ": 'layers.Flatten()' is no ...; write `Name` or `Name: {argument: value}`; did you mean 'Flatten'?",
    ),
    ("type: Flatten", ": 'type' is no Keras layer ...; write `Name` or"),
    ("deserialize", ": 'deserialize' is no Keras layer (see https://keras.io/api/layers)"),
    ("ELU: {alpha: much}", ".ELU.alpha: is 'much'; allowed: a number"),
    ("Resizing: {height: 9, width: 9, interpolation: 3}", ".Resizing.interpolation: is 3"),
    ("Flatten: {name: 2020-01-01}", ".Flatten.name: is datetime.date(...; allowed: letters"),
    ("5", ": 5 is no layer; write `Name` or `Name: {argument: value}`"),
    ("{Dense: {units: 1}, Dropout: {rate: 0.5}}", ": {'Dense': ...} is no layer"),
    ("Dropout: 0.5", ".Dropout: 0.5 are no arguments; write `Dropout: {argument: value}`"),
    ("Dropout: {rate: 1.5}", ".Dropout.rate: is 1.5; allowed: a number"),
    (f"Dropout: {{rate: {BIG}}}", ".Dropout.rate: is 1000...; allowed: a number"),
    ("Rescaling: {scale: [[.inf]]}", ".Rescaling.scale: is [[inf]]; allowed: texts, finite"),
    ("Conv2D: {filters: 1, kernel_size: 3, padding: sam}", ".Conv2D.padding: is 'sam'; ..."),
    # Python's numbers, tuples and None
    ("Rescaling: {scale: 1./255}", ".Rescaling.scale: is '1./255'; YAML takes it for a text; write 0.5 for 1/2"),
    ("Reshape: {target_shape: '(7, 112)'}", ".Reshape.target_shape: is '(7, 112)'; YAML ...[3, 3] for (3, 3)"),
    ("Dropout: {rate: 0.5, seed: None}", ".Dropout.seed: is 'None'; YAML takes it for a text; ...null for None"),
    ("RandomTranslation: {height_factor: [-1/8, 1/8]}", ".RandomTranslation.height_factor: is ['-1/8', '1/8']; YAML"),
    # what the images hold, and what `adapt` would learn of them
    ("Normalization", ".Normalization.mean: missing; ...no stage fits it to the images"),
    ("Normalization: {mean: 0.1307, variance: null}", ".Normalization.variance: missing; Normalization needs"),
    ("Discretization: {num_bins: 4}", ".Discretization.bin_boundaries: missing; Discretization needs"),
    # a layer around a layer
    ("TimeDistributed: {layer: Dens}", ".TimeDistributed.layer: 'Dens' is no Keras ...'Dense'?"),
    ("TimeDistributed", ".TimeDistributed.layer: missing; TimeDistributed needs this"),
    (
        "Bidirectional: {layer: {LSTM: {unit: 3}}, merge: sum}",
        ".Bidirectional.layer.LSTM.unit: unknown argument of LSTM; ...'units'?",
    ),
    (
        "TimeDistributed: {layer: {Bidirectional: {layer: {GRU: {units: 0}}}}}",
        ".TimeDistributed.layer.Bidirectional.layer.GRU.units: is 0; allowed: a whole number",
    ),
    ("TimeDistributed: {layer: Lambda}", ".TimeDistributed.layer: the layer Lambda is refused"),
    ("Add", ": the layer Add is refused: it needs several inputs, which is not supported: a mod"),
    # what a saved model would lose, or what cannot be loaded again
    ("Flatten: {autocast: false}", ".Flatten.autocast: is False, which is refused: Keras does not"),
    ("LSTM: {units: 3, stateful: true}", ".LSTM.stateful: is True, which is refused: a batch"),
    ("RandomShear: {x_factor: 0.2}", ".RandomShear.x_factor: is 0.2; allowed: a list [lowest, h"),
    ("CutMix", ": the layer CutMix is refused: it changes the labels too"),
    (
        "AdaptiveMaxPooling3D: {output_size: 2, data_format: channels_first}",
        ".AdaptiveMaxPooling3D.data_format: is 'channels_first', which is refused: Keras reads",
    ),
    # values of 0 to 255
    ("RandomBrightness: {factor: 0.1}", ".RandomBrightness.value_range: missing; ...add [0, 1]"),
    ("AutoContrast: {value_range: [0, 255]}", ".AutoContrast.value_range: is [0, 255]; ...[0, 1]"),
    # what would run code, read a file, or is no layer of a chain
    ("Lambda: {function: x}", ": the layer Lambda is refused: it would run code"),
    ("TFSMLayer: {filepath: x}", ": the layer TFSMLayer is refused: it would run code"),
    ("Input: {shape: [1]}", ": the layer Input is refused: the images are the input; leave it out"),
    ("InputSpec", ": the layer InputSpec is refused: it is abstract"),
    ("Pipeline: {layers: []}", ": the layer Pipeline is refused: it is a list"),
    ("StringLookup: {vocabulary: /etc/passwd}", ": the layer StringLookup is refused"),
    ("os.system", ": 'os.system' is no Keras layer"),
]
BESIDE_UNITS = [
    (
        "kernel_regularizer: l2(0.01)",
        ".kernel_regularizer: is 'l2(0.01)'; ...you mean 'l2'?; with arguments write {class_name",
    ),
    ("kernel_regularizer: l1_l2", ".kernel_regularizer: is 'l1_l2'; not known to Keras; allowed: ...you mean 'l1l2'?"),
    ("input_dim: 784", ".input_dim: unknown argument of Dense: the shape comes from"),
    ("name: my layer", ".name: is 'my layer'; allowed: letters, digits"),
    ("dtype: {class_name: DTypePolicy}", ".dtype: is {...; allowed: texts"),
]
BESIDE_THE_LEARNING_RATE = [
    ("momentun: 0.9", ".momentun: unknown argument of SGD; ...you mean 'momentum'?"),
    ("model_config: 1", ".model_config: unknown argument of SGD"),
    ("nesterov: no", ".nesterov: is 'no'; allowed: true, false"),
    ("nesterov: 1", ".nesterov: is 1; allowed: true, false"),
    ("clipnorm: None", ".clipnorm: is 'None'; YAML takes it for a text"),
    ("weight_decay: true", ".weight_decay: is True; allowed: a number of at least 0"),
    ("weight_decay: -1", ".weight_decay: is -1; allowed: a number of at least 0"),
    ("loss_scale_factor: 0", ".loss_scale_factor: is 0; allowed: a number above 0"),
    (
        "gradient_accumulation_steps: two",
        ".gradient_accumulation_steps: is 'two'; allowed: a whole number of at least 2",
    ),
    ("momentum: 1.5", ".momentum: is 1.5; allowed: a number of at least 0 and below 1"),
]
AS_THE_LEARNING_RATE = [
    ("'0.1'", ": is '0.1'; allowed: a number above 0, or a sch"),
    ("true", ": is True; allowed: a number above 0"),
    ("{name: CosineDecay, alpha: null}", ".alpha: is None; allowed: a number"),
    ("{name: PolynomialDecay, end_learning_rate: -5}", ".end_learning_rate: is -5; allowed: a number of at least 0"),
    ("-1", ": is -1; allowed: a number above 0"),
    (".nan", ": is nan; allowed: a number above 0"),
    (BIG, ": is 1000...; allowed: a number"),
    ("{name: CosinDecay}", ".name: 'CosinDecay' is no Keras schedule; ...you mean 'CosineDecay'?"),
    ("{decay_steps: 5}", ".name: missing; add this key"),
    ("{nmae: CosineDecay}", ".nmae: unknown key; did you mean 'name'?"),
    ("{name: CosineDecay}", ".decay_steps: missing; CosineDecay needs this argument"),
    ("{name: CosineDecay, decay_step: 5}", ".decay_step: unknown argument of CosineDecay; ..._steps'?"),
    ("{name: CosineDecay, unit: epoch}", ".unit: is 'epoch'; allowed: steps, epochs"),
    ("{name: CosineDecay, decay_steps: 0.5}", ".decay_steps: is 0.5; allowed: a whole number of steps"),
    ("{name: CosineDecay, decay_steps: -1, unit: epochs}", ".decay_steps: is -1; allowed: a number of e"),
    ("{name: CosineDecay, warmup_steps: [1]}", ".warmup_steps: is [1]; allowed: a whole number"),
    ("{name: PiecewiseConstantDecay, values: [a]}", ".values: is ['a']; allowed: a list, each entry a number"),
    ("{name: PiecewiseConstantDecay, boundaries: 5}", ".boundaries: is 5; allowed: a list, each entry"),
    ("{name: PiecewiseConstantDecay, boundaries: [5, 3]}", ".boundaries: is [5, 3]; ...that grows"),
    (f"{{name: CosineDecay, decay_steps: {BIG}}}", ".decay_steps: is 1000"),
    ("{name: CosineDecay, initial_learning_rate: true}", ".initial_learning_rate: is True; allowed: a n"),
    ("{name: CosineDecay, alpha: a}", ".alpha: is 'a'; allowed: a number"),
    ("{name: LearningRateSchedule}", ".name: 'LearningRateSchedule' is no Keras schedule"),
]
BESIDE_EPOCHS = [
    ("reduce_lr_on_plateau: {factor: 1}", ".reduce_lr_on_plateau.factor: is 1; ...less"),
    ("label_smoothing: 1", ".label_smoothing: is 1; input should be less than 1"),
    ("class_weight: {10: 1}", ".class_weight.10: is 10; ...less than or equal"),
    ("class_weight: {3: -1}", ".class_weight.3: is -1; input should be greater"),
    ("class_weight: {'3': 2}", ".class_weight.3: is '3'; input should be a valid integer; leave the quotes out"),
    ("class_weight: {x: 1}", ".class_weight.x: is 'x'; input should be a valid"),
]
ELSEWHERE = [
    # a misspelt key or name
    ("epochs: 10", "epoch: 10", "models.mlp.epoch: unknown key; allowed: batch_...; did you mean 'epochs'?"),
    ("epochs: 10", "epoch: 10", "models.mlp.epochs: missing; add this key"),
    ("threads: 2", "thread: 2", "thread: unknown key; ...; did you mean 'threads'?"),
    ("top_k: 3", "topk: 3", "inference.topk: unknown key; ...; did you mean 'top_k'?"),
    ("patience: 0", "patienc: 0", "models.mlp.early_stopping.patienc: unknown key; ...you mean 'patience'?"),
    ("  mlp:", "  optimizer: {epoch: 1}\n  mlp:", "models.optimizer.epoch: unknown key; ...you mean 'epochs'?"),
    ("seed: 42", "seed: 42\n5: 5", "5: is 5; keys should be strings"),
    ("units: 100", "unit: 100", f"{DENSE}.unit: unknown argument of Dense; ...; did you mean 'units'?"),
    ("units: 100", "[1, 2]: 100", f"{DENSE}.(1, 2): unknown argument of Dense"),
    ("{units: 100, activation: sigmoid}", "", f"{DENSE}.units: missing; Dense needs this argument"),
    ("name: SGD", "name: SDG", f"{OPTIMIZER}.name: 'SDG' is no Keras optimizer; allowed: ...; did you mean 'SGD'?"),
    ("name: SGD", "name: adam", f"{OPTIMIZER}.name: 'adam' is no Keras optimizer; allowed: ...; did you mean 'Adam'?"),
    ("name: SGD", "nmae: SGD", f"{OPTIMIZER}.nmae: unknown key; did you mean 'name'?"),
    ("learning_rate", "learnig_rate", f"{OPTIMIZER}.learnig_rate: unknown argument ...; did you mean 'learning_rate'?"),
    ("learning_rate", "learnig_rate", f"{OPTIMIZER}.learning_rate: missing; add this key"),
    ("name: SGD", "name: LossScaleOptimizer", f"{OPTIMIZER}.name: 'LossScaleOptimizer' is no Keras optimizer"),
    ("name: SGD", "name: MultiOptimizer", f"{OPTIMIZER}.name: 'MultiOptimizer' is no Keras optimizer"),
    ("name: SGD", "name: Optimizer", f"{OPTIMIZER}.name: 'Optimizer' is no Keras optimizer"),
    ("activation: sigmoid", "activation: sigmoidd", f"{DENSE}.activation: is 'sigmoidd'; ...you mean 'sigmoid'?"),
    ("val_loss", "val_los", "models.mlp.early_stopping.monitor: is 'val_los'; input should be 'loss', ..."),
    ("sigmoid", "glu", f"{DENSE}.activation: is 'glu'; refused: it gives half as many channels as the layer says"),
    ("sigmoid", "threshold", f"{DENSE}.activation: is 'threshold'; refused: it needs arguments, and an activation is"),
    # a wrong type
    ("epochs: 10", "epochs: ten", "models.mlp.epochs: is 'ten'; input should be a valid integer"),
    ("epochs: 10", "epochs: '10'", "models.mlp.epochs: is '10'; input should be a valid integer"),
    ("epochs: 10", "epochs: 10.0", "models.mlp.epochs: is 10.0; input should be a valid integer"),
    ("epochs: 10", "epochs: true", "models.mlp.epochs: is True; input should be a valid integer"),
    ("{name: SGD, learning_rate: 0.1}", "SGD", f"{OPTIMIZER}: is 'SGD'; a block of `key: value` lines is needed"),
    ("- Flatten", "-", f"{LAYER}: None is no layer; write `Name`"),
    ("images: data/sample_images", "images: HTTPS://h/x", "inference.images: DVC sees a change of the web page, but"),
    ("images: data/sample_images", "images: 5", "inference.images: is 5; input should be a valid string"),
    # a value out of range
    ("batch_size: 32", "batch_size: 0", "models.mlp.batch_size: is 0; input should be greater than or equal to 1"),
    ("split: 0.05", "split: 1.2", "models.mlp.validation_split: is 1.2; input should be less than 1"),
    ("split: 0.05", "split: 0.99999", "models.mlp.validation_split: is 0.99999; it leaves none of the 60000 images"),
    ("split: 0.05", "split: 0", "models.mlp.early_stopping: val_loss needs a validation_split above 0"),
    ("split: 0.05", "split: 1.0e-17", "models.mlp.early_stopping: val_loss needs a ...of at least one image"),
    ("units: 100", "units: -1", f"{DENSE}.units: is -1; allowed: a whole number of at least 1"),
    ("units: 100", "units: null", f"{DENSE}.units: is None; allowed: a whole number of at least 1"),
    ("seed: 42", "seed: 42\ndata_parallel: 3", "models.mlp.batch_size: is 32; allowed: a multiple of data_parallel"),
    (
        "seed: 42",
        "seed: 42\ndevice: gpu",
        "inference.backend: is 'openvino', which computes on the CPU only; ... keras",
    ),
    ("seed: 42", "seed: 42\ndevice: tpu", "device: is 'tpu'; input should be 'auto', 'cpu' or 'gpu'"),
    ("seed: 42", "seed: -1", "seed: is -1; input should be greater than or equal to 0"),
    ("seed: 42", "seed: 0x" + "f" * 9000, "seed: is a number far too long; input should be less than 4294967296"),
    ("top_k: 3", "top_k: 1001", "inference.top_k: is 1001; input should be less than or equal to 1000"),
    ("  mlp:", "  ../mlp:", "models.../mlp: not a version name; allowed: 1 to 100 letters, digits, '_' and '-'"),
    ("  mlp:", "  resnet50:", "models.resnet50: the name is taken: metrics/resnet50.json is of the"),
    ("  mlp:", "  RESNET50_predictions:", "models.RESNET50_predictions: the name is taken: metrics/resnet50_pred"),
    ("  mlp:", f"  {'a' * 101}:", "not a version name; allowed: 1 to 100 letters"),
    (MODELS, MODELS + MODELS[8:].replace("mlp", "MLP"), "models.MLP: some file systems take it for 'mlp', another"),
    ("  mlp:", "  7:", "models.7: is 7; input should be a valid string; put it in quotes"),
    (
        "0.1}",
        "{name: CosineDecay, initial_learning_rate: 1, decay_steps: 2}}\n    reduce_lr_on_plateau: {}",
        "models.mlp.reduce_lr_on_plateau: the optimizer's learning_rate follows a schedule already; keep one",
    ),
    ("split: 0.05", "split: 0\n    reduce_lr_on_plateau: {}", "reduce_lr_on_plateau: val_loss needs a validation"),
    ("patience: 0", "baseline: best", "models.mlp.early_stopping.baseline: is 'best'; input should be a valid number"),
    ("patience: 0", "start_from: 2", "early_stopping.start_from: unknown key; ...; did you mean 'start_from_epoch'?"),
    # something is missing or there twice
    (MODELS, "models: {}\n", "models: is {}; at least one entry is needed"),
    ("layers:", "layers: Flatten\n    old:", "models.mlp.layers: is 'Flatten'; a list of `- entry` lines is needed"),
    (MODELS, "models:\n", "models: is None; a block of `key: value` lines is needed"),
    (MODELS, "", "models: missing; add this key"),
    (GOOD, "", "the file: is None; a block of `key: value` lines is needed"),
    (GOOD, "- 1\n- 2\n", "the file: is [1, 2]; a block of `key: value` lines is needed"),
    ("epochs: 10", "epochs: 10\n    epochs: 20", 'not valid YAML: line 12: found duplicate key "epochs"'),
    ("units: 100", "units: 100, units: 5", 'not valid YAML: line 7: found duplicate key "units"'),
    # what would run code, or read a file
    ("sigmoid", "{class_name: __lambda__, config: {value: x}}", f"{DENSE}.activation: is {{...; allowed: a name"),
    ("sigmoid", "{class_name: function, config: get_file, module: keras.utils}", f"{DENSE}.activation: is {{..."),
    ("units:", "kernel_initializer: {class_name: Ones, module: os}, units:", f"{DENSE}.kernel_initializer"),
    ("units:", "kernel_initializer: {class_name: Lambda, config: {}}, units:", "...; not known to Keras"),
    ("units:", "bias_initializer: deserialize, units:", f"{DENSE}.bias_initializer: is 'deserialize'; not known"),
]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        *(("- Flatten", f"- {layer}", LAYER + said) for layer, said in IN_PLACE_OF_FLATTEN),
        *(("units: 100", f"units: 100, {argument}", DENSE + said) for argument, said in BESIDE_UNITS),
        *(("0.1}", f"0.1, {argument}}}", OPTIMIZER + said) for argument, said in BESIDE_THE_LEARNING_RATE),
        *(("0.1}", f"{rate}}}", RATE + said) for rate, said in AS_THE_LEARNING_RATE),
        *(("epochs: 10", f"epochs: 10\n    {key}", f"models.mlp{said}") for key, said in BESIDE_EPOCHS),
        *ELSEWHERE,
    ],
)
def test_a_mistake_is_named_with_its_key(load, old, new, message):
    with pytest.raises(UserError, match=r"params\.yaml") as caught:
        load(old, new)
    pattern = ".*".join(map(re.escape, message.split("...")))
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_all_mistakes_are_told_at_once(load):
    with pytest.raises(UserError, match=r"params\.yaml: 3 problem") as caught:
        load(
            GOOD,
            GOOD.replace("seed: 42", "seed: x").replace("- Flatten", "- Flaten").replace("epochs: 10", "epochs: 0"),
        )
    assert len(str(caught.value).splitlines()) == 4
    twice = GOOD.replace(MODELS, MODELS + MODELS[8:].replace("mlp", "MLP")).replace(
        "seed: 42", "seed: 42\ndata_parallel: 3"
    )
    with pytest.raises(
        UserError, match=r"3 problem.*\n  models\.mlp\.batch_size: .*\n  models\.MLP: .*\n  models\.MLP\.batch"
    ):
        load(GOOD, twice)


@pytest.mark.parametrize(
    "layer",
    [
        "Dense: {units: 3, kernel_regularizer: {class_name: L2, config: {l2: 0.01}}, bias_initializer: ones}",
        "Dense: {units: 3, kernel_initializer: {class_name: RandomNormal, config: {stddev: 0.1}}, activation: null}",
        "Dense: {units: 3, kernel_constraint: {class_name: MaxNorm, config: {max_value: 2}}, use_bias: false}",
        "Dense: {units: 3, bias_constraint: {class_name: MinMaxNorm, config: {rate: 1}}}",
        "Conv2D: {filters: 8, kernel_size: [3, 3], padding: same, strides: 2}",
        "ZeroPadding2D: {padding: [[1, 0], [0, 1]]}",
        "Rescaling: {scale: [0.5], offset: -1}",
        "Normalization: {mean: 0.1307, variance: 0.0949, axis: null}",
        "EinsumDense: {equation: '...a,ab->...b', output_shape: 5}",
        "MaxPool2D: {strides: null}",
        "LSTM: {units: 4, return_sequences: true, dropout: 0.5}",
        "Bidirectional: {layer: {LSTM: {units: 32}}, merge_mode: concat}",
        "Bidirectional: {layer: {GRU: {units: 3}}, backward_layer: {GRU: {units: 3, go_backwards: true}}}",
        "TimeDistributed: {layer: Flatten}",
        "GRU: {units: 3, use_cudnn: false, stateful: false, autocast: true}",
        "SpectralNormalization: {layer: {TimeDistributed: {layer: {Dense: {units: 3}}}}}",
        "RandomBrightness: {factor: 0.1, value_range: [0, 1]}",
    ],
)
def test_what_keras_takes_is_taken(load, layer):
    load("- Flatten", f"- {layer}")


@pytest.mark.parametrize(
    ("rate", "arguments"),
    [
        ("{name: CosineDecay, initial_learning_rate: 1, decay_steps: 5, alpha: 0.1}", {"decay_steps": 5, "alpha": 0.1}),
        ("{name: CosineDecay, initial_learning_rate: 1, decay_steps: 2.5, unit: epochs}", {"decay_steps": 18}),
        (
            "{name: PiecewiseConstantDecay, values: [1, 2, 3], boundaries: [1, 2], unit: epochs}",
            {"boundaries": [7, 14], "values": [1, 2, 3]},
        ),
    ],
)
def test_a_schedule_counts_in_steps_or_in_epochs(load, rate, arguments):
    schedule = load("0.1}", rate + "}").models["mlp"].optimizer.learning_rate
    assert arguments.items() <= schedule.arguments(steps_per_epoch=7).items()


def test_no_version_can_overwrite_a_metrics_file(load):
    """Every file that dvc.yaml puts where a version's metrics lie has a name that no version may have."""
    taken = re.findall(r"^ +- metrics/([^/${}]+)\.json", (ROOT / "dvc.yaml").read_text(), re.MULTILINE)
    assert {"resnet50", "resnet50_predictions"} <= set(taken)
    for name in taken:
        with pytest.raises(UserError, match=rf"models\.{name}: the name is taken"):
            load("  mlp:", f"  {name}:")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("kernel_regularizer: {class_name: L2, config: {l3: 0.01}}", "config.l3 unknown argument of L2"),
        ("kernel_regularizer: {class_name: L2, config: {l2: [{}]}}", "config.l2 is [{}]; allowed"),
        ("kernel_initializer: he_norml", "did you mean 'he_normal'"),
    ],
)
def test_a_mistake_inside_an_initializer_or_regularizer_is_named(load, given, message):
    with pytest.raises(UserError, match=re.escape(f"{DENSE}.kernel_") + ".*" + re.escape(message)):
        load("units: 100", f"units: 100, {given}")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file; run from the project's root or name it with"):
        load_params(tmp_path / "none.yaml")
    with pytest.raises(IsADirectoryError):
        load_params(tmp_path)
    with pytest.raises(UserError, match=f"larger than {MAX_BYTES} bytes"):
        load_params("/dev/zero")


def test_a_thousand_versions_are_read(load):
    copies = "".join(f"  v{number}: *mlp\n" for number in range(999))
    text = GOOD.replace("  mlp:\n", "  mlp: &mlp\n").replace("inference:", f"{copies}inference:")
    assert len(load(new=text.encode()).models) == 1000


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_with_a_message(tmp_path_factory, data):
    """Any one stretch of a good file replaced by something else: never an error of another kind."""
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(start + 30, len(GOOD))))
    parts = ["{", "}", "[", "]", ": ", "- ", "\n", "&a ", "*a", "~", ".inf", "1e400", "!!int ", "Dense", "units"]
    new = data.draw(st.lists(st.sampled_from(parts) | st.text(max_size=3), max_size=4).map("".join))
    path = tmp_path_factory.getbasetemp() / "fuzzed_params.yaml"
    path.write_bytes((GOOD[:start] + new + GOOD[end:]).encode("utf-8", "surrogatepass"))
    try:
        with little_memory(100_000_000):
            load_params(path)
    except UserError as error:
        assert str(path) in str(error)


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)) + GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("epochs: 10", "epochs: ten"), "models.mlp.epochs: is 'ten'"),
        (BOMB, "more than 100000 keys and values"),
        (None, "Is a directory; name a file"),
    ],
    ids=["type", "bomb", "folder"],
)
def test_a_stage_stops_before_any_work(stage, tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    if text:
        path.write_text(text)
    else:
        path.mkdir()

    def limit():  # a bomb that goes off fails here and takes nothing else with it
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))

    options = {"preexec_fn": limit, "timeout": 60, "env": os.environ | {"OPENBLAS_NUM_THREADS": "1"}}
    done = stage("prepare", "--params", path, cwd=tmp_path, **options)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert str(path) in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("target", ["repro", "ci-repro"])
def test_make_runs_dvc_by_way_of_the_check(target):
    commands = subprocess.check_output(["make", "--dry-run", "SETUP=true", target], cwd=ROOT, text=True)
    assert "python -m tools.run.repro" in commands and "dvc repro" not in commands


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "params.yaml: not valid YAML: line "),
        (GOOD.replace("epochs: 10", "epochs: ten"), "params.yaml: 1 problem(s)\n  models.mlp.epochs: is 'ten'"),
    ],
    ids=["bomb", "type"],
)
def test_a_run_stops_before_any_work(tmp_path, text, message):
    project = Project(tmp_path, "", "stages: {slow: {cmd: touch out, outs: [out]}}")
    (tmp_path / "params.yaml").write_text(text)
    with project.start() as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output[: len(message) + 7]) == (1, f"error: {message}")
    assert not (tmp_path / "out").exists()
