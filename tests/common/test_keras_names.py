"""What is read from Keras' source is what the real Keras offers, and a params file cannot ask for code with it."""

import importlib
import inspect

import pytest

from stages.common import keras_names
from stages.common.keras_arguments import ADAPTED, _argument_problems
from stages.common.keras_names import LAYER_ARGUMENTS, REFUSED_LAYERS, REQUIRED


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def constructor(cls: type) -> tuple[dict, bool]:
    """The arguments of a class that Python itself reports, with their defaults, and whether it passes others on."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = {each.name: each.default for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    return named, any(each.kind == each.VAR_KEYWORD for each in parameters)


@pytest.mark.parametrize("package", ["layers", "optimizers", "initializers", "regularizers", "constraints"])
def test_every_argument_and_default_is_that_of_the_real_class(keras, package):
    module = getattr(keras, package)
    allowed = {"layers": keras_names.layers(), "optimizers": keras_names.optimizers()}
    for name in allowed.get(package, keras_names.names(package)):
        named, passes_on = constructor(getattr(module, keras_names.names(package)[name][1]))
        common = LAYER_ARGUMENTS if package == "layers" and passes_on else {}
        found = keras_names.arguments(package, name)
        assert found.keys() == named.keys() | common.keys(), name
        for argument, default in named.items():
            real = REQUIRED if default is inspect.Parameter.empty else default
            assert found[argument] == real or (found[argument] is None and real is not REQUIRED), (name, argument)


def test_every_layer_of_keras_is_allowed_or_refused(keras):
    public = {name for name in dir(keras.layers) if isinstance(getattr(keras.layers, name), type)} | {"Input"}
    assert set(keras_names.layers()) | REFUSED_LAYERS.keys() == public
    assert not set(keras_names.layers()) & REFUSED_LAYERS.keys()


def test_every_allowed_layer_takes_one_input_and_neither_code_nor_files_nor_layers(keras):
    refused = {"function", "fn", "call_fn", "init_fn", "module", "filepath", "vocabulary", "layer", "layers", "cell"}
    for name in set(keras_names.layers()) - set(keras_names.WRAPPERS):
        cls = getattr(keras.layers, name)
        assert issubclass(cls, keras.Layer)
        assert not issubclass(cls, keras.layers.Wrapper | keras.layers.Lambda | keras.layers.InputLayer)
        assert not issubclass(cls, type(keras.layers.Add()).__mro__[1])  # merges several inputs
        assert not refused & keras_names.arguments("layers", name).keys(), name
        call = list(inspect.signature(cls.call).parameters.values())[1:]
        assert sum(each.default is each.empty for each in call) == 1, name


def test_the_arguments_of_a_layer_around_a_layer_that_are_layers_are_known(keras):
    for name in keras_names.WRAPPERS:
        assert issubclass(getattr(keras.layers, name), keras.layers.Layer)
        assert "layer" in keras_names.arguments("layers", name)
        assert {each for each in keras_names.arguments("layers", name) if "layer" in each} <= set(keras_names.INNER)


def test_every_layer_takes_the_arguments_that_all_share(keras):
    given = {"name": "x", "trainable": False, "dtype": "float32", "autocast": False, "activity_regularizer": None}
    assert given.keys() == LAYER_ARGUMENTS.keys()
    # The first sets one of them itself, the next two need a value in place of a default, the last one needs SciPy.
    special = {"ActivityRegularization", "CategoryEncoding", "Discretization", "STFTSpectrogram"}
    made = 0
    for name in set(keras_names.layers()) - special:
        defaults = keras_names.arguments("layers", name)
        if REQUIRED not in defaults.values() and LAYER_ARGUMENTS.keys() <= defaults.keys():
            assert getattr(keras.layers, name)(**given).name == "x"
            made += 1
    assert made > 50


def test_other_names_of_a_layer_are_the_same_layer(keras):
    for alias, name in [("Convolution2D", "Conv2D"), ("MaxPool2D", "MaxPooling2D"), ("AvgPool1D", "AveragePooling1D")]:
        assert alias in keras_names.layers()
        assert keras_names.arguments("layers", alias) == keras_names.arguments("layers", name)
        assert getattr(keras.layers, alias) is getattr(keras.layers, name)


def test_the_optimizers_are_all_that_keras_can_train_a_model_with(keras):
    for name in keras_names.optimizers():
        assert getattr(keras.optimizers, name)(learning_rate=0.5).learning_rate.numpy() == 0.5
    refused = {"LossScaleOptimizer", "MultiOptimizer", "Optimizer", "OptimizerMap"}
    public = {name for name in dir(keras.optimizers) if isinstance(getattr(keras.optimizers, name), type)}
    assert public - set(keras_names.optimizers()) == refused


def test_the_schedules_are_all_that_keras_has(keras):
    module = keras.optimizers.schedules
    public = {name for name in dir(module) if isinstance(getattr(module, name), type)}
    assert public - set(keras_names.schedules()) == {"LearningRateSchedule"}
    for name in keras_names.schedules():
        assert "name" in keras_names.arguments("optimizers.schedules", name)


@pytest.mark.parametrize("package", ["activations", "initializers", "regularizers", "constraints"])
def test_keras_knows_the_names_of_activations_and_the_like(keras, package):
    module = importlib.import_module(f"keras.src.{package}")
    for name in keras_names.names(package):
        if name not in ("constant", "Constant") and "stft" not in name.lower():  # need a value, or SciPy
            assert callable(module.get(name)), name
    known = {name for name in module.ALL_OBJECTS_DICT if isinstance(name, str)}
    assert keras_names.names(package).keys() == known - {package[:-1], package[:-1].capitalize()}  # which are abstract


@pytest.mark.parametrize("package", ["layers", "optimizers", "optimizers.schedules"])
def test_no_argument_s_own_default_is_refused_but_for_those_that_say_why(package):
    allowed = {"layers": keras_names.layers, "optimizers": keras_names.optimizers}.get(package, keras_names.schedules)
    for name in allowed():
        for argument, default in keras_names.arguments(package, name).items():
            given = list(default) if isinstance(default, tuple) else default
            if default is not REQUIRED and argument not in (
                "value_range",
                "x_factor",
                "y_factor",
                *ADAPTED.get(name, []),
            ):
                assert argument not in _argument_problems(package, name, {argument: given}), (name, argument)
    assert not {"get", "serialize", "deserialize"} & keras_names.names(package).keys()


def test_an_object_with_arguments_is_what_keras_makes_of_it(keras):
    made = keras.layers.Dense(1, kernel_regularizer={"class_name": "L2", "config": {"l2": 0.25}})
    assert made.kernel_regularizer.l2 == 0.25
    made = keras.layers.Dense(1, kernel_initializer={"class_name": "HeNormal", "config": {}})
    assert isinstance(made.kernel_initializer, keras.initializers.HeNormal)
