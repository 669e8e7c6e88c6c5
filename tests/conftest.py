"""The real files, fetched once a session by the project's own download code, and slices of them."""

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import stages  # noqa: F401  sets the environment before NumPy is imported
from stages import mnist
from stages.assets import load_assets
from stages.common import paths
from stages.common.files import write_json
from stages.common.params import ComputeSettings, load_params
from stages.download.__main__ import download
from stages.download.convert import CONVERTERS
from stages.download.fetch import Fetcher
from stages.download.mirrors import named_mirrors
from stages.prepare import normalise

ROOT = Path(__file__).resolve().parents[1]
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs what Linux has: /proc, /dev/full, limits of memory, names that are no UTF-8"
)

# A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; `pytest --hypothesis-profile=random` draws others.
settings.register_profile("random", deadline=None, database=None)
settings.register_profile("fixed", settings.get_profile("random"), derandomize=True)
settings.load_profile("fixed")


# The files that take longest come first, so that at the end of a run no worker waits for another's. Two files that need
# the same thing (`native_tapes`, `small_project`) are not neighbours: one worker would make it, and the other wait.
LONG = [
    "emulated_intel",
    "networks",
    "emulated_amd",
    "pipeline",
    "jax",
    "optimizers",
    "portability",
    "faults",
    "on_ray",
    "merge",
    "verify",
    "branches",
    "loop",
    "trust",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files; pytest-xdist gives each worker the next one."""
    place = {f"test_{name}": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """This process may take `more` bytes of address space on top of what it has; beyond, a MemoryError is raised.

    Other systems than Linux do not say what it has, and set no limit.
    """
    if sys.platform != "linux":
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def quick(count: int, *cases: object) -> list:
    """Cases for `pytest.mark.parametrize`: `make test` tries the first `count`, `make test-all` all of them."""
    return [
        *cases[:count],
        *(
            pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
            for case in cases[count:]
        ),
    ]


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make(folder)` fills, once for all workers of pytest-xdist: the first that comes makes it, others wait."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with folder.with_suffix(".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.getsize(lock.name):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            lock.write("made")
    return folder


@pytest.fixture
def read_s3_at(monkeypatch) -> Iterator[Callable[[str, str, str], None]]:
    """Called with an address, a user and a password, lets this process read S3 there.

    s3fs keeps its connections for the whole process; this test's are its own.
    """
    s3fs = pytest.importorskip("s3fs", reason="needs `make setup EXTRAS=s3`")

    def read_at(address: str, user: str, password: str) -> None:
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", password)

    yield read_at
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def downloaded(tmp_path_factory) -> Path:
    """Folder with all that the download stage writes, under the names in dvc.yaml."""
    folder = tmp_path_factory.mktemp("downloaded")
    fetcher = Fetcher(ROOT / ".dvc/tmp/assets", CONVERTERS, named_mirrors())
    names = ("data/raw", "models/resnet50", "data/sample_images", "data/sample_labels.json")
    download(load_assets(ROOT / "assets.yaml"), *(folder / name for name in names), fetcher)
    return folder


@pytest.fixture(scope="session")
def raw_mnist(downloaded) -> Path:
    """Folder with the four real IDX files."""
    return downloaded / "data/raw"


@pytest.fixture(scope="session")
def samples(downloaded) -> Path:
    """Folder with the real images."""
    return downloaded / "data/sample_images"


@pytest.fixture(scope="session")
def resnet50_folder(downloaded) -> Path:
    """Folder with ResNet50's real weights and class index."""
    return downloaded / "models/resnet50"


@pytest.fixture(scope="session")
def digits(raw_mnist) -> mnist.Digits:
    """The first 600 real training images, as `mnist.load` gives them."""
    images = mnist.read_images(raw_mnist / "train-images-idx3-ubyte", mnist.COUNTS["train"])[:600]
    labels = mnist.read_labels(raw_mnist / "train-labels-idx1-ubyte", mnist.COUNTS["train"])[:600]
    return mnist.Digits(normalise(images)[..., None], labels)


@pytest.fixture(scope="session")
def small_project(downloaded, tmp_path_factory):
    """The project with two small versions trained for an epoch, run from nothing and committed: to be cloned."""
    from tests.project import Project

    home = tmp_path_factory.mktemp("home")

    def make(folder: Path) -> None:
        made = Project(folder, home)
        made.shrink()
        made.run("dvc", "repro")
        made.commit("small")

    return Project(made_once(tmp_path_factory, "small", make), home)


@pytest.fixture(scope="session")
def toy_origin(tmp_path_factory):
    """The project that `toy` clones."""
    from tests.toy import Toy

    home = tmp_path_factory.mktemp("home")
    return Toy(made_once(tmp_path_factory, "toy", lambda folder: Toy(folder, home).prepare()), home)


@pytest.fixture
def toy(toy_origin, tmp_path):
    """A project that computes next to nothing, with its outputs in place; it shares a cache with all others of its kind."""
    made = toy_origin.clone(tmp_path / "toy", cache=True)
    made.run("dvc", "checkout", "-q")
    return made


@pytest.fixture(scope="session")
def test_arrays(raw_mnist, tmp_path_factory) -> Path:
    """Folder with the prepared arrays of the real test set."""
    folder = tmp_path_factory.mktemp("prepared")
    images = mnist.read_images(raw_mnist / "t10k-images-idx3-ubyte", mnist.COUNTS["t10k"])
    np.save(folder / "test_images.npy", normalise(images))
    np.save(folder / "test_labels.npy", mnist.read_labels(raw_mnist / "t10k-labels-idx1-ubyte", mnist.COUNTS["t10k"]))
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Folder with a model of each version, not trained, as `<version>.keras`, and as data for the report in `weights`."""
    from stages import network
    from stages.evaluate import plain

    folder = tmp_path_factory.mktemp("untrained")
    for name, model in load_params(ROOT / paths.PARAMS).models.items():
        made, path = network.build(name, model, (mnist.SIDE, mnist.SIDE, 1), mnist.CLASSES), folder / f"{name}.keras"
        network.save(made, path)
        write_json(folder / "weights" / f"{name}.json", plain(path, made))
    return folder


@pytest.fixture
def report_inputs(downloaded, test_arrays, untrained, tmp_path, monkeypatch) -> Path:
    """The current folder, with the real inputs of the report stage, but untrained weights; all may be edited."""
    monkeypatch.chdir(make_report_inputs(downloaded, test_arrays, untrained, tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def report_page(downloaded, test_arrays, untrained, tmp_path_factory) -> str:
    """The report of the recorded metrics and untrained weights, as HTML."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_report_inputs(downloaded, test_arrays, untrained, tmp_path_factory.mktemp("report")))
        return report_of_the_current_folder()


def report_of_the_current_folder() -> str:
    """The report of its metrics, as HTML."""
    from stages.report import page

    return page.render(page.gather(load_params(paths.PARAMS)))


def make_report_inputs(downloaded: Path, test_arrays: Path, untrained: Path, folder: Path) -> Path:
    shutil.copytree(ROOT / "metrics", folder / "metrics", ignore=shutil.ignore_patterns("plots", "report"))
    shutil.copytree(ROOT / "replicates/results", folder / "replicates/results")
    shutil.copytree(downloaded / "data/sample_images", folder / "data/sample_images")
    shutil.copytree(untrained / "weights", folder / paths.WEIGHTS)
    shutil.copy(ROOT / "assets.yaml", folder)
    return lay(folder, prepared=test_arrays)


@pytest.fixture(scope="session")
def stage():
    """Run a stage in a fresh process, as DVC does, in a folder: `stage("train", "mlp", cwd=...)` -> CompletedProcess."""

    def run(name: str, *arguments: object, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"stages.{name}", *map(str, arguments)]
        options["env"] = {"PYTHONPATH": str(ROOT)} | (options.get("env") or os.environ)
        return subprocess.run(command, capture_output=True, text=True, **options)

    return run


def lay(folder: Path, params: str | None = None, **places: Path) -> Path:
    """Make `folder` a place where a stage can run: params.yaml, and links such as `raw=...` at the paths of `paths`."""
    (folder / paths.PARAMS).write_text(params or (ROOT / paths.PARAMS).read_text())
    for name, target in places.items():
        path = folder / getattr(paths, name.upper())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return folder


@pytest.fixture(scope="session", autouse=True)
def tensorflow() -> None:
    """TensorFlow set up as a stage does it, before the first operation of this process."""
    from stages import compute

    compute.set_up(ComputeSettings(seed=42, threads=2))
