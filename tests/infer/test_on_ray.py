"""The engine `ray`: real clusters on this machine give the bytes of the engine `local`, also if a part of them dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.common import paths
from stages.common.params import ComputeSettings, Inference
from stages.infer.classifier import Classifier
from stages.infer.folder import classify_folder
from tests.conftest import ROOT, lay
from tests.tools.run.sharing import servers

pytest.importorskip("ray", reason="needs `make setup EXTRAS=ray`")
from stages.infer import on_ray

pytestmark = pytest.mark.slow

PARAMS = (ROOT / "params.yaml").read_text().partition("\ninference:")[0].replace("\nthreads: 2 ", "\nthreads: 1 ")


class Stage:
    """Runs the infer stage in a process of its own, as DVC does."""

    def __init__(self, images: object, labels: Path, weights: Path, out: Path):
        self.images, self.labels, self.weights, self.out = images, labels, weights, out
        self.log = out.with_suffix(".log")

    def start(self, engine: str, workers: int = 1, address: str = "", **environment: str) -> subprocess.Popen:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        (self.out / "stages").symlink_to(ROOT / "stages")  # Ray's workers look in the folder of the run
        block = f"{{images: {str(self.images)!r}, engine: {engine}, workers: {workers}, top_k: 3, batch_size: 4}}"
        lay(self.out, f"{PARAMS}\ninference: {block}\n", resnet50=self.weights, sample_labels=self.labels)
        environment = os.environ | {"RAY_ADDRESS": address} | environment
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "stages.infer"]
            return subprocess.Popen(command, cwd=self.out, env=environment, stderr=log)

    def end(self, process: subprocess.Popen) -> tuple[bytes, bytes, str]:
        """What it wrote, and its messages."""
        messages = self.messages(process)
        assert process.returncode == 0, messages
        written = [self.out / paths.RESNET50_PREDICTIONS, self.out / paths.RESNET50_METRICS]
        return *(path.read_bytes() for path in written), messages

    def messages(self, process: subprocess.Popen) -> str:
        process.wait(timeout=240)
        lines = self.log.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("computing with "))  # said where it is computed

    def answering(self, process: subprocess.Popen) -> None:
        """Return when the first chunks are there, and the last are not."""
        while "'0 first'" not in self.log.read_text():
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        assert "'z last'" not in self.log.read_text()

    def run(self, *arguments: object, **options: str) -> tuple[bytes, bytes, str]:
        return self.end(self.start(*arguments, **options))


@pytest.fixture(scope="module")
def mixed(samples, tmp_path_factory) -> Path:
    """60 files: images in subfolders, a name that is no UTF-8, damaged files as the first and the last, and a link."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(56):
        path = folder / f"part {number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(sorted(samples.iterdir())[number % 7], path)
    shutil.copy(samples / "coffee.png", os.fsdecode(os.fsencode(folder) + b"/not \xff utf-8.png"))
    (folder / "link.png").symlink_to(samples / "coffee.png")
    for name in ("0 first", "z last"):
        (folder / name).write_text("no image")
    return folder


@pytest.fixture
def stage(mixed, downloaded, resnet50_folder, tmp_path) -> Stage:
    return Stage(mixed, downloaded / "data/sample_labels.json", resnet50_folder, tmp_path / "out")


@pytest.fixture(scope="module")
def expected(mixed, downloaded, resnet50_folder, tmp_path_factory) -> tuple[bytes, bytes, str]:
    """What the local engine writes and says."""
    labels = downloaded / "data/sample_labels.json"
    made = Stage(mixed, labels, resnet50_folder, tmp_path_factory.mktemp("local")).run("local")
    assert [len(json.loads(made[0])), json.loads(made[1])["errors"], len(made[2].splitlines())] == [60, 3, 3]
    return made


def test_ray_started_on_this_machine_gives_the_same_bytes_and_leaves_nothing_behind(stage, expected, short_folder):
    assert stage.run("ray", 1, RAY_TMPDIR=short_folder) == expected
    assert os.listdir(short_folder) == []


def test_images_in_a_bucket_are_read_by_the_workers(stage, samples, tmp_path):
    pytest.importorskip("s3fs", reason="needs `make setup EXTRAS=s3`")
    with servers.s3(tmp_path / "s3") as remote:
        stage.images = shutil.copytree(samples, tmp_path / "s3/bucket/some images")
        (stage.images / "below").mkdir()
        (stage.images / "below/empty.jpg").touch()
        (stage.images / "below/.hidden").write_text("not listed")
        local = stage.run("local")
        assert len(json.loads(local[0])) == len(list(samples.iterdir())) + 1
        stage.images = "s3://bucket/some images/"
        access = {"AWS_ENDPOINT_URL": remote["endpointurl"], "AWS_ACCESS_KEY_ID": servers.USER,
                  "AWS_SECRET_ACCESS_KEY": servers.PASSWORD}  # fmt: skip
        assert stage.run("local", **access) == local
        assert stage.run("ray", 1, **access) == local
        assert (code := stage.start("local", **access | {"AWS_SECRET_ACCESS_KEY": "wrong"})).wait(60) == 1, code
        assert stage.log.read_text().startswith("error: inference.images: s3://bucket/some images/: ")
        assert "Traceback" not in stage.log.read_text()


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_on_a_cluster_gives_the_same_bytes(stage, expected, nodes, workers):
    assert stage.run("ray", workers, nodes.address) == expected


def test_a_worker_that_dies_is_replaced_and_its_images_are_computed_again(stage, expected, nodes):
    process = stage.start("ray", 2, nodes.address)
    stage.answering(process)
    victim, _ = nodes.workers(nodes.head) + nodes.workers(nodes.second)
    os.kill(victim, signal.SIGKILL)
    assert stage.end(process) == expected


def test_a_node_that_dies_takes_no_image_with_it(stage, expected, nodes):
    """Ray's driver learns of it, starts the node's workers on what is left, and has their chunks computed again there."""
    process = stage.start("ray", 4, nodes.address)
    stage.answering(process)
    assert len(nodes.workers(nodes.second)) == 2
    nodes.kill_second()
    try:
        assert stage.end(process) == expected
    finally:
        nodes.replace_second()


def test_a_fault_that_every_worker_has_is_one_message(stage, nodes, tmp_path):
    stage.weights = shutil.copytree(stage.weights, tmp_path / "weights")
    with (tmp_path / "weights/resnet50_weights.h5").open("r+b") as file:
        file.seek(10_000_000)
        file.write(b"\0" * 100)
    process = stage.start("ray", 2, nodes.address)
    messages = stage.messages(process)
    assert process.returncode == 1
    assert messages.startswith("error: ") and "resnet50_weights.h5: damaged" in messages
    assert messages.count("\n") == 1
    assert os.listdir(stage.out / "metrics") == []


def test_ctrl_c_ends_ray_too(stage, mixed, short_folder):
    process = stage.start("ray", 1, RAY_TMPDIR=short_folder)
    stage.answering(process)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in stage.messages(process)
    assert process.returncode == 130
    assert os.listdir(short_folder) == []
    assert os.listdir(stage.out / "metrics") == []
    assert wait_until_gone(short_folder)


def wait_until_gone(folder: str) -> bool:
    """Whether all of Ray's processes end, which have the path of their temporary folder among their arguments."""
    for _ in range(100):
        if folder not in subprocess.check_output(["ps", "-eo", "args"], text=True):
            return True
        time.sleep(0.1)
    return False


def test_a_image_that_is_not_there_is_named_with_the_node(downloaded, resnet50_folder, tmp_path):
    pa = pytest.importorskip("pyarrow")
    worker = on_ray.Worker(tmp_path, None, *(arguments := (Inference(images="any", top_k=3, batch_size=1), 1, ComputeSettings(seed=0, threads=1))))  # fmt: skip
    worker.classifier = Classifier(resnet50_folder, *arguments)
    row = worker(pa.table({"chunk": [3], "names": [[b"vanished.png"]]})).to_pylist()[0]
    assert (row["chunk"], row["found"]) == (3, "")
    assert row["error"].startswith(f"{tmp_path}/vanished.png: no such file on the node ")


def rows(*numbers: int):
    return ({"chunk": number, "found": f"[{number}]"} for number in numbers)


def test_chunks_are_put_in_order_and_none_is_kept(tmp_path):
    assert list(on_ray._in_order(rows(2, 0, 2, 3, 1), tmp_path)) == ["[0]", "[1]", "[2]", "[3]"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [(0, 2), (0, 1), (0, 1, 2, 3)], ids=["one lost", "the last lost", "one more"])
def test_a_chunk_too_few_or_too_many_ends_the_run(resnet50_folder, tmp_path, monkeypatch, numbers):
    """Each chunk has one of three images here."""
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / name).touch()
    monkeypatch.setattr(on_ray, "classify", lambda *_: on_ray._in_order(rows(*numbers), tmp_path))
    settings = Inference(images="any", engine="ray", top_k=3, batch_size=1), ComputeSettings(seed=0, threads=1)
    with pytest.raises(ValueError, match="shorter|longer"):
        list(classify_folder(tmp_path / "images", resnet50_folder, *settings))


def test_the_memory_of_the_driver_does_not_grow_with_the_images(nodes, downloaded):
    """Files that are no images, so that Ray and the driver are measured and not the network."""
    from benchmarks.inference import driver

    (_, early), (_, late) = driver(6_000, 2, nodes.address, downloaded)
    assert late < early + 6
