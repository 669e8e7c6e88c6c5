"""The stages on Keras' JAX backend, in processes that have no TensorFlow; what they give beside TensorFlow's results."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.common import paths
from stages.common.files import write_array
from stages.common.params import ComputeSettings
from stages.images.load import load_batches
from stages.infer import classifier
from tests.conftest import ROOT, lay

pytestmark = pytest.mark.slow

pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")
PARAMS = (ROOT / "params.yaml").read_text()
ON_TENSORFLOW = os.environ | {"KERAS_BACKEND": "tensorflow"}
SEEDS = {path.stem: json.loads(path.read_text())["accuracy"] for path in (ROOT / "replicates/results").glob("*.json")}


def on_jax(**more: str) -> dict[str, str]:
    """The environment of such a process."""
    path = f"{ROOT / 'tests/no_tensorflow'}{os.pathsep}{ROOT}"
    return os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": path} | more


@pytest.fixture(scope="module")
def prepared(raw_mnist, test_arrays, stage) -> Path:
    """Folder with the arrays that the prepare stage makes of the real files."""
    folder = test_arrays / "jax"
    folder.mkdir()
    done = stage("prepare", cwd=lay(folder, raw=raw_mnist), env=on_jax())
    assert done.returncode == 0, done.stderr
    return folder / paths.PREPARED


@pytest.fixture(scope="module")
def small(prepared, tmp_path_factory) -> Path:
    """Folder with 6,000 of the training images, and all test images."""
    folder = tmp_path_factory.mktemp("small")
    for path in prepared.glob("*.npy"):
        write_array(folder / path.name, np.load(path)[: 6000 if "train" in path.name else None])
    return folder


class Run:
    """One training and its measuring, by the stages."""

    def __init__(self, stage, folder: Path, prepared: Path, version: str, edits: dict[str, str], options: dict):
        self.folder, self.stage, self.options, self.version = folder, stage, options, version
        self.model, self.history = folder / paths.model(version), folder / paths.history(version)
        text = PARAMS
        for old, new in edits.items():
            assert old in text
            text = text.replace(old, new)
        lay(folder, text, prepared=prepared)
        self.log = self("train")

    def __call__(self, name: str, **options) -> str:
        done = self.stage(name, self.version, cwd=self.folder, **self.options | options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def measure(self, environment: dict | None = None) -> tuple[float, list[str], np.ndarray]:
        """Accuracy on the test set, the predicted digits and their probabilities."""
        self("evaluate", env=environment or self.options["env"])
        with (self.folder / paths.predictions(self.version)).open(newline="") as file:
            rows = list(csv.DictReader(file))
        probabilities = np.array([float(row["probability"]) for row in rows])
        metrics = json.loads((self.folder / paths.metrics(self.version)).read_text())
        return metrics["accuracy"], [row["predicted"] for row in rows], probabilities


@pytest.fixture(scope="module")
def run(stage, prepared, tmp_path_factory):
    """`run(version)` -> Run, on JAX unless `options` (of subprocess.run) have another `env`."""

    def make(version: str, edits: dict[str, str] | None = None, data: Path = prepared, **options) -> Run:
        options = {"env": on_jax()} | options
        return Run(stage, tmp_path_factory.mktemp(version), data, version, edits or {}, options)

    return make


@pytest.fixture(scope="module")
def mlp(run) -> Run:
    made = run("mlp")
    made.measured = made.measure()
    return made


def assert_within_luck(accuracy: float, version: str) -> None:
    assert accuracy == pytest.approx(SEEDS[version]["mean"], abs=3 * SEEDS[version]["std"])


def test_the_mlp_is_as_good_as_on_tensorflow(mlp):
    assert "computing with JAX " in mlp.log and " on the CPU\n" in mlp.log
    assert_within_luck(mlp.measured[0], "mlp")


def test_a_model_trained_on_jax_gives_the_same_probabilities_on_tensorflow(mlp):
    _, there, sure = mlp.measured
    _, here, as_sure = mlp.measure(ON_TENSORFLOW)
    assert here == there
    np.testing.assert_allclose(as_sure, sure, rtol=0, atol=1e-5)


def test_the_mlp_with_batch_normalization_is_as_good_as_on_tensorflow(run):
    assert_within_luck(run("mlp_batchnorm").measure()[0], "mlp_batchnorm")


# Over six seeds, three epochs on these 6,000 images gave 0.9602 with a standard deviation of 0.0043 on TensorFlow, 0.9585
# with 0.0066 on JAX. This is the two pooled; the difference of two trainings spreads by the square root of two more.
CNN_SPREAD = 0.0056


def test_the_cnn_learns_a_slice_as_on_tensorflow_and_its_model_goes_there_and_back(run, small):
    shortened = {"epochs: 30": "epochs: 3"}
    ours, theirs = run("cnn", shortened, small), run("cnn", shortened, small, env=ON_TENSORFLOW)
    measured, expected = ours.measure(), theirs.measure()
    assert measured[0] == pytest.approx(expected[0], abs=3 * CNN_SPREAD * 2**0.5)
    _, here, sure = theirs.measure(on_jax())
    assert here == expected[1]
    np.testing.assert_allclose(sure, expected[2], rtol=0, atol=1e-5)


def on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_the_same_command_gives_the_same_bytes_whatever_the_cores_and_the_shell_say(run, small):
    edits = {"epochs: 10": "epochs: 1"}
    shell = on_jax(NPROC="7", XLA_FLAGS="--xla_cpu_enable_fast_math=true", KERAS_HOME=str(small))
    one, again = (
        run("mlp_batchnorm", edits, small),
        run("mlp_batchnorm", edits, small, env=shell, preexec_fn=on_one_core),
    )
    assert again.model.read_bytes() == one.model.read_bytes()
    assert again.history.read_bytes() == one.history.read_bytes()


TWO = {"data_parallel: 1": "data_parallel: 2"}


def test_two_devices_train_a_model_as_good_as_one(run, mlp):
    two = run("mlp", TWO)
    assert " on the CPU as 2 devices\n" in two.log
    assert two.model.read_bytes() != mlp.model.read_bytes()
    assert_within_luck(two.measure()[0], "mlp")


SHARED = """
import keras, jax, numpy as np
from stages.train import loop
from stages import network
from stages import compute
from stages.common.params import Model, ComputeSettings

class Spy(keras.layers.Layer):
    def call(self, inputs):
        jax.debug.inspect_array_sharding(inputs, callback=lambda s: print(len(inputs), s.shard_shape(inputs.shape)[0]))
        return inputs

compute.set_up(ComputeSettings(seed=1, threads=2), devices=2)
model = keras.Sequential([keras.Input((4,)), Spy(), keras.layers.Dense(2, activation="softmax")])
images, labels = loop.backend.constant(np.ones((50, 4), "f4")), loop.backend.constant(np.ones(50, "i4"))
steps = loop.backend.compile_steps(model, keras.optimizers.SGD(), 20)
order = loop.backend.constant(np.arange(50, dtype="i4"))
steps(images, labels, order, 0, 2)
steps(images, labels, order[:9], 0, 1, batch_size=9)
for variable in model.trainable_variables:
    print(len(variable.value.sharding.device_set), variable.value.sharding.is_fully_replicated)
"""


def python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=on_jax(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_device_computes_its_half_of_a_batch_and_has_all_weights():
    assert set(python(SHARED).splitlines()) == {"20 10", "9 9", "2 True"}


SURE = """
import numpy as np
from stages.compute import keras
from stages.compute.evaluation import compile_evaluate
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "softmax")])
model.set_weights([np.array([[50.0, 0.0]]), np.zeros(2)])
print(compile_evaluate(model)(np.ones((1, 1), "f4"), np.ones(1, "i4"))[0]["loss"])
"""


def test_a_prediction_that_is_sure_and_wrong_costs_no_more_than_the_page_says():
    """50 on TensorFlow, which Keras gives what the softmax has got."""
    assert float(python(SURE)) == pytest.approx(16.1, abs=0.05)


CLASSIFY = """
import sys, numpy as np
from stages.infer import classifier
from stages.common.params import ComputeSettings
images = list(np.load(sys.argv[2]))
classify = classifier.compile_classify(sys.argv[1], "keras", 4, ComputeSettings(seed=0, threads=2))
np.save(sys.argv[3], np.concatenate([classify(images[:4]), classify(images[4:])]))
"""


def test_resnet50_gives_the_probabilities_of_tensorflow(samples, resnet50_folder, tmp_path):
    resized = [each.pixels for each in next(load_batches(sorted(samples.iterdir()), 7, 2))]
    np.save(tmp_path / "images.npy", resized)
    python(CLASSIFY, resnet50_folder, tmp_path / "images.npy", tmp_path / "out.npy")
    expected = classifier.compile_classify(resnet50_folder, "keras", 7, ComputeSettings(seed=0, threads=2))(resized)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-4)


FITTING = (
    "test_training_gives_the_weights_and_figures_of_keras or no_number or a_schedule or is_reduced or "
    "test_random_layers and RandomFlip or "
    "test_a_training_that_was_cut_off and (dropout or averages or waits)"
)


def test_the_tests_of_the_training_loop_pass(tmp_path):
    """Beside Keras' own `fit` on JAX; cut off and resumed to the same bits, by steps that are compiled once for all."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/train/test_loop.py",
        "-k",
        FITTING,
    ]
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=on_jax(**kept), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("edit", "backend", "message"),
    [
        (("device: auto", "device: gpu"), "jax", "device: gpu, but JAX finds the CPU alone: `make setup EXTRAS=gpu`, or"),
        (("device: auto", "device: gpu"), "tensorflow", "device: gpu, but TensorFlow finds the CPU alone: `make setup"),
        (("data_parallel: 1", "data_parallel: 2"), "tensorflow", "data_parallel: 2 needs Keras on JAX: set KERAS_BACKEND=jax"),
        (("units: 100", "units: 1000000000000"), "jax", "params.yaml: models.mlp.layers.1.Dense: Keras refuses it: RESOURCE_EX"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_computed_is_one_message(edit, backend, message, small, stage, tmp_path):
    text = PARAMS.replace(*edit, 1).replace("backend: openvino", "backend: keras")
    environment = on_jax() if backend == "jax" else ON_TENSORFLOW
    done = stage("train", "mlp", cwd=lay(tmp_path, text, prepared=small), env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in done.stderr


def test_jax_computes_in_float32_and_leaves_an_installed_tensorflow_alone():
    command = "from stages import compute; from stages.common.params import ComputeSettings; import sys, jax\n"
    command += "compute.set_up(ComputeSettings(seed=1, threads=2, instructions=sys.argv[1]))\n"
    command += "compute.keras.layers.RandomFlip(seed=1)(jax.numpy.ones((2, 4, 4, 1)), training=True)\n"
    command += "print(jax.config.jax_default_matmul_precision, 'tensorflow' in sys.modules)"
    for instructions, precision in (("avx2", "highest"), ("native", None)):
        done = subprocess.run(
            [sys.executable, "-c", command, instructions],
            cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout == f"{precision} False\n", done.stderr
        assert re.fullmatch("computing with JAX .* on the CPU\n", done.stderr)


def test_jax_that_is_not_installed_is_told():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['jax'] = None; import stages"],
        cwd=ROOT, env=on_jax(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: KERAS_BACKEND is jax, but JAX is not installed: run `make setup EXTRAS=jax`\n"
