"""`make verify` on a Git and DVC repository with this project's stages, on the real digits, cut down to be fast."""

import hashlib
import importlib.metadata
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.common import paths
from stages.common.cli import UserError
from stages.common.files import sha256
from tests.conftest import ROOT
from tests.project import Project as Copy
from tests.project import edit
from tools.verify import rerun as verify
from tools.verify import statement
from tools.verify.compare import Outcome, compare, files_in, md5, outputs, read_lock, verdict

pytestmark = pytest.mark.slow

PARAMS = """
seed: 1
threads: 2
instructions: avx2
device: auto
data_parallel: 1
models:
  tiny:
    layers: [Flatten, {Dense: {units: 32, activation: relu}}, {Dense: {units: 10, activation: softmax}}]
    optimizer: {name: SGD, learning_rate: 0.1}
    batch_size: 100
    epochs: 3
    validation_split: 0.05
inference: {images: data/sample_images, top_k: 3, batch_size: 32}
"""
METRICS = "metrics/tiny.json"
FINGERPRINTS = "metrics/fingerprints/tiny.csv"
# A training in which one bit of a weight flips after batch 100 of the second epoch's 570.
FLIP = """
import sys
from stages.train import __main__, loop

compile_steps, seen = loop.backend.compile_steps, 0

def flip(variable):
    weights = variable.numpy()
    weights.view("uint32")[400, 5] ^= 1 << 20  # of a pixel in the middle
    variable.assign(weights)

def compile_with_a_flip(network, *arguments):
    run = compile_steps(network, *arguments)

    def run_steps(images, labels, order, start, stop):
        global seen
        at, seen = start + 570 + 100 - seen, seen + stop - start
        if not start < at <= stop:
            return run(images, labels, order, start, stop)
        before = run(images, labels, order, start, at)
        flip(network.layers[1].kernel)
        return [one + other for one, other in zip(before, run(images, labels, order, at, stop))]

    return run_steps

loop.backend.compile_steps = compile_with_a_flip
sys.argv[1:] = ["tiny"]
__main__.main()
"""


class Project(Copy):
    """A copy of this project in which its user runs `make verify`."""

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def verify(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "tools.verify", *arguments]
        environment = self.environment | environment
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def project(downloaded, tmp_path_factory) -> Project:
    """The stages from download to evaluate, run and committed; the outside files were fetched before."""
    home = tmp_path_factory.mktemp("home")
    made = Project(tmp_path_factory.mktemp("project"), home)
    made.environment |= {"TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}  # what `snapshot` compares stays the same
    for name in ("data", "docs", "metrics", "models", "replicates", "tests"):
        shutil.rmtree(made.folder / name)
    (made.folder / "dvc.lock").unlink()
    (made.folder / "params.yaml").write_text(PARAMS)
    yaml = YAML(typ="safe", pure=True)
    stages = yaml.load(made.folder / "dvc.yaml")["stages"]
    for stage in ("infer", "plots", "report"):
        del stages[stage]
    yaml.dump({"stages": stages}, made.folder / "dvc.yaml")
    (made.folder / ".dvc/tmp").mkdir()
    (made.folder / paths.DOWNLOADS).symlink_to(ROOT / paths.DOWNLOADS)
    made.git("config", "user.email", "test@example.org")
    made.run("dvc", "repro", "-q")
    made.commit("start")
    return made


@pytest.fixture(scope="module")
def proven(project) -> Iterator[tuple[subprocess.CompletedProcess, Path, Path]]:
    """A rerun of the untouched commit that left its folders behind: what it said, as committed, as rerun."""
    before = snapshot(project.folder)
    done = project.verify("--keep")
    assert snapshot(project.folder) == before
    kept = Path(done.stderr.rpartition("kept: ")[2].splitlines()[0])
    yield done, kept / "committed", kept / "rerun"
    shutil.rmtree(kept)


def snapshot(folder: Path) -> dict[str, int]:
    kept = (path for path in folder.rglob("*") if not {"__pycache__", "verification"} & {*path.parts})
    return {str(path): path.stat().st_mtime_ns for path in kept}


@pytest.fixture
def copies(proven, tmp_path) -> tuple[Path, Path]:
    """The two folders without the large files, to be changed by a test."""
    _, committed, rerun = proven
    for folder in (committed, rerun):
        ignored = shutil.ignore_patterns(".git", ".dvc", "data", "models")
        shutil.copytree(folder, tmp_path / folder.name, ignore=ignored)
    return tmp_path / "committed", tmp_path / "rerun"


def different(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.path: outcome.note for outcome in outcomes if outcome.level != "same"}


# --------------------------------------------------------------------------------------------- the command as a whole


def test_an_untouched_commit_is_reproduced_to_the_bit(proven):
    done, _, rerun = proven
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith("reproduced to the bit")
    assert {line.split()[0] for line in lines} == {"same"}
    assert {METRICS, "models/tiny.keras", "data/raw", "metrics/history/tiny.csv"} <= {line.split()[1] for line in lines}
    assert done.stderr.count("Running stage") == 4, "every stage works"
    assert not (rerun.parent / "cache").exists(), "nothing was kept in a cache, and nothing came from one"


def test_what_came_out_is_stated(project, proven):
    done, committed, rerun = proven
    commit = project.git("rev-parse", "HEAD").strip()
    path = project.folder / "verification" / commit / "test@example.org.json"
    assert f"statement: {path.relative_to(project.folder)}; `make sign` signs it" in done.stderr
    made = statement.parse(path.read_bytes())
    files = [name for name in files_in(rerun) if name.startswith(("data/", "models/", "metrics/"))]
    assert made.digests().keys() == {"dvc.lock", *files}
    assert {name: sha256(rerun / name) for name in files} | {
        "dvc.lock": sha256(committed / "dvc.lock")
    } == made.digests()
    said = made.predicate
    assert (said.commit, said.reproduced, said.verdict) == (commit, "bits", done.stdout.splitlines()[-1])
    assert said.locks == {name: sha256(ROOT / name) for name in verify.LOCKS}
    assert "avx2" in said.machine.instruction_sets and said.machine.processor in Path("/proc/cpuinfo").read_text()
    assert json.loads(path.read_bytes())["_type"] == "https://in-toto.io/Statement/v1"
    assert not any(word in path.read_text() for word in (str(rerun.parent), str(project.folder), socket.gethostname()))


def test_a_bit_that_flipped_in_training_is_traced_to_its_version_epoch_and_layer(project):
    """The flipped run is committed; what the checkout holds besides says nothing about the commit."""
    project.git("checkout", "-q", "-b", "flipped")
    project.run(sys.executable, "-c", FLIP)
    project.run("dvc", "commit", "-fq", "train@tiny")
    project.run("dvc", "repro", "-q")
    project.commit("test")
    (project.folder / METRICS).write_text("{}")
    done = project.verify("--who", "me")
    project.git("checkout", "-qf", "main")
    project.run("dvc", "checkout", "-q")
    assert done.returncode == 1, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith("not reproduced")
    (line,) = (line for line in lines if FINGERPRINTS in line)
    assert "train@tiny: same until epoch 1, first different in epoch 2, layer dense, kernel (4 of 6 variables)" in line
    (path,) = (project.folder / "verification").glob("*/me.json")
    made = statement.parse(path.read_bytes())
    assert (made.predicate.commit, made.predicate.reproduced) == (project.git("rev-parse", "flipped").strip(), "no")
    assert made.digests()[METRICS] == sha256(project.folder / METRICS), "what the rerun gave, which main records"


def test_one_altered_byte_and_one_altered_hash_are_each_named(project, tmp_path):
    """In a shallow clone with a detached HEAD, and with a Git hook's variables set, as CI and hooks have them."""
    project.git("checkout", "-q", "-b", "altered")
    text = (project.folder / METRICS).read_text()
    digit = next(character for character in text if character.isdigit() and character != "0")
    (project.folder / METRICS).write_text(text.replace(digit, str(int(digit) - 1), 1))
    edit(project.folder / "dvc.lock", md5_of(project.folder / "models/tiny.keras"), "0" * 32)
    project.commit("test")
    project.git("checkout", "-q", "main")
    subprocess.run(["git", "clone", "-q", "--depth=1", "--branch=altered", f"file://{project.folder}", str(tmp_path)],
                   env=project.environment, check=True)  # fmt: skip
    shallow = Project(tmp_path, Path(project.environment["HOME"]))
    shallow.git("checkout", "-q", "--detach")
    (tmp_path / ".dvc/tmp").mkdir()
    (tmp_path / paths.DOWNLOADS).symlink_to(ROOT / paths.DOWNLOADS)
    shallow.environment["GIT_DIR"] = "/nonexistent"
    done = shallow.verify()
    assert done.returncode == 1
    *lines, last = done.stdout.splitlines()
    assert last.startswith("not reproduced")
    assert {line.split()[1] for line in lines if line.startswith("different")} == {METRICS, "models/tiny.keras"}
    assert "the rerun gives what dvc.lock records" in next(line for line in lines if METRICS in line)


def test_figures_of_another_platform_pass_within_tolerance(project):
    """A commit as another platform would have made it: other metrics, rightly recorded; named by its tag."""
    project.git("checkout", "-q", "-b", "elsewhere")
    old = md5_of(project.folder / METRICS)
    yaml = YAML(typ="safe")
    metrics = yaml.load(project.folder / METRICS)
    edit(project.folder / METRICS, str(metrics["accuracy"]), str(round(metrics["accuracy"] - 0.0021, 6)))
    edit(project.folder / "dvc.lock", old, md5_of(project.folder / METRICS))
    project.commit("test")
    project.git("tag", "v1")
    project.git("checkout", "-q", "main")
    done = project.verify("--tolerance", "--rev", "v1")
    assert done.returncode == 0, done.stderr
    *_, reason, last = done.stdout.splitlines()
    assert "--tolerance" in reason
    assert last.startswith("reproduced within tolerance")
    assert "accuracy 0.0021 (allowed 0.01)" in last


def test_jax_reruns_within_tolerance_also_where_there_is_no_tensorflow(project):
    pytest.importorskip("jax", reason="needs JAX: make setup EXTRAS=jax")
    project.git("checkout", "-q", "-b", "no_tensorflow")  # of which its folder is searched before the libraries
    (project.folder / "tensorflow.py").write_text('raise ImportError("there is no TensorFlow here")')
    project.commit("test")
    done = project.verify(KERAS_BACKEND="jax")
    project.git("checkout", "-q", "main")
    assert done.returncode == 0, done.stderr
    *_, reason, last = done.stdout.splitlines()
    assert reason == "compared within tolerance: Keras runs on JAX (KERAS_BACKEND)"
    assert last.startswith("reproduced within tolerance")
    assert "computing with JAX" in done.stderr and "computing with TensorFlow" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(project, tmp_path, number):
    environment = project.environment | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", "tools.verify"], cwd=project.folder, env=environment,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        while "Running stage" not in (line := process.stderr.readline()):
            assert line, "it ended before a stage ran"
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert not any(str(tmp_path) in command for command in running())


def running() -> list[str]:
    folders = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = []
    for folder in folders:
        try:
            found.append(str((folder / "cwd").readlink()))
        except OSError:
            continue
    return found


def test_a_commit_with_other_library_versions_gets_advice_and_no_verdict(project, tmp_path):
    project.git("checkout", "-q", "-b", "older")
    edit(project.folder / "requirements/compute.txt", "keras==", "keras==1.")
    project.commit("test")
    project.git("checkout", "-q", "main")
    project.environment["TMPDIR"] = str(tmp_path)
    done = project.verify("--rev", "older")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is installed, 1.3.15.1 is pinned" in done.stderr and "in a clone of its own" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_on_jax_a_package_may_be_missing_and_no_other_version_be_there(tmp_path, monkeypatch):
    lock = tmp_path / "requirements/compute.txt"
    with pytest.raises(UserError, match=r"HEAD has no requirements/compute\.txt"):
        verify.check_versions(tmp_path, "HEAD")
    lock.parent.mkdir()
    lock.write_text(f"no-such-package==1.0\nkeras=={importlib.metadata.version('keras')}\n")
    with pytest.raises(UserError, match=r"no-such-package 1\.0 is not installed"):
        verify.check_versions(tmp_path, "HEAD")
    monkeypatch.setattr(verify, "ON_JAX", True)
    verify.check_versions(tmp_path, "HEAD")
    lock.write_text("keras==1.0\n")
    with pytest.raises(UserError, match=r"keras \S+ is installed, 1\.0 is pinned"):
        verify.check_versions(tmp_path, "HEAD")


# ---------------------------------------------------------------------------------- comparing two copies, without a run


def test_each_altered_file_is_named_with_what_is_right(copies):
    committed, rerun = copies
    (committed / "metrics/classes/tiny.csv").write_text("digit\n")
    edit(rerun / "dvc.lock", md5_of(rerun / METRICS), "1" * 32)
    metrics = json.loads((rerun / METRICS).read_text())
    (rerun / METRICS).write_text(json.dumps(metrics | {"accuracy": 0.1}))
    found = different(compare(committed, rerun))
    assert found.keys() == {METRICS, "metrics/classes/tiny.csv"}
    assert found["metrics/classes/tiny.csv"].endswith("the rerun gives what dvc.lock records")
    assert found[METRICS].startswith("beyond tolerance: accuracy 0.")


def fingerprints(*epochs: str) -> str:
    """One character for each variable's hash: `fingerprints("ab", "cd")` is two epochs of two variables."""
    names = ("tiny/dense/kernel", "sgd/momentum")
    rows = [
        f"{epoch},{name},{digest * 16}"
        for epoch, digests in enumerate(epochs, 1)
        for name, digest in zip(names, digests, strict=False)
    ]
    return "\n".join(["epoch,variable,sha256", *rows, ""])


@pytest.mark.parametrize(
    ("new", "level", "note"),
    [
        (fingerprints("ab", "ed"), "uncompared", "same until epoch 1, first different in epoch 2, layer dense, kernel (1 of 2 variables)"),
        (fingerprints("ab", "ce"), "uncompared", "same until epoch 1, first different in epoch 2, sgd/momentum (1 of 2 variables)"),
        (fingerprints("ef", "ed"), "uncompared", "first different in epoch 1, layer dense, kernel (2 of 2 variables)"),
        (fingerprints("ab"), "uncompared", "same in all epochs that both have; 2 recorded, 1 now"),
        (fingerprints("ab", "c"), "beyond", "epoch 2 has other variables"),
        ("epoch\n", "beyond", "the header must be"),
    ],
)  # fmt: skip
def test_where_trainings_part_is_named_and_no_matter_of_tolerance(copies, new, level, note):
    for folder, text in zip(copies, (fingerprints("ab", "cd"), new), strict=True):
        edit(folder / "dvc.lock", md5_of(folder / FINGERPRINTS), hashlib.md5(text.encode()).hexdigest())
        (folder / FINGERPRINTS).write_text(text)
    outcomes = compare(*copies)
    (outcome,) = (outcome for outcome in outcomes if outcome.level != "same")
    assert (outcome.path, outcome.level) == (FINGERPRINTS, level)
    assert note in outcome.note
    assert verdict(outcomes, tolerant=True)[0] == ("tolerance" if level == "uncompared" else "no")
    assert verdict(outcomes, tolerant=False)[0] == "no"


def test_a_wrong_record_is_no_matter_of_tolerance(copies):
    committed, rerun = copies
    text = (committed / METRICS).read_text()
    (committed / METRICS).write_text(text + " ")
    outcomes = compare(committed, rerun)
    assert different(outcomes).keys() == {METRICS}
    assert verdict(outcomes, tolerant=True)[0] == "no"


def test_lingering_and_unrecorded_stages_and_outputs_are_named(copies):
    committed, rerun = copies
    yaml = YAML(typ="safe", pure=True)
    lock = yaml.load((committed / "dvc.lock").read_bytes())
    lock["stages"]["evaluate@old"] = {"cmd": "true", "outs": [{"path": "metrics/old.json", "md5": "0" * 32}]}
    del lock["stages"]["train@tiny"]
    with (committed / "dvc.lock").open("w") as file:
        yaml.dump(lock, file)
    found = different(compare(committed, rerun))
    assert found.keys() == {
        "dvc.lock",
        "metrics/old.json",
        "models/tiny.keras",
        "metrics/history/tiny.csv",
        FINGERPRINTS,
    }
    assert "stage evaluate@old is not in dvc.yaml; stage train@tiny is not recorded" in found["dvc.lock"]
    assert "no stage of dvc.yaml makes it" in found["metrics/old.json"]
    assert "does not record it" in found["models/tiny.keras"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("seed: 1", "seed: 2", "evaluate@tiny, train@tiny: recorded with another version of seed in params.yaml"),
        (md5_of(ROOT / "stages/prepare.py"), "0" * 32, "prepare: recorded with another version of stages/prepare.py"),
        (
            "python -m stages.prepare",
            "python  -m stages.prepare",
            "prepare: recorded with another version of the command",
        ),
    ],
)
def test_a_lock_that_tells_of_other_sources_is_named(copies, old, new, named):
    committed, rerun = copies
    edit(committed / "dvc.lock", old, new)
    outcomes = compare(committed, rerun)
    assert different(outcomes) == {"dvc.lock": named}
    assert verdict(outcomes, tolerant=True)[0] == "no"


def test_a_metric_that_was_never_committed_is_named(copies):
    committed, rerun = copies
    (committed / METRICS).unlink()
    assert different(compare(committed, rerun, untracked=[METRICS])).keys() == {METRICS}


def test_folders_that_git_keeps_are_compared_file_by_file(copies):
    committed, rerun = copies
    for folder in copies:
        (folder / "metrics/plots/deeper").mkdir(parents=True)
        for name in ("a.png", "b.png", "deeper/c.png", "deeper.png"):
            (folder / "metrics/plots" / name).write_bytes(name.encode())
        record(folder, "plots", "metrics/plots")
    assert different(compare(committed, rerun)) == {}
    (rerun / "metrics/plots/b.png").write_bytes(b"other")
    (rerun / "metrics/plots/deeper/c.png").unlink()
    record(rerun, "plots", "metrics/plots")
    assert different(compare(committed, rerun)).keys() == {"metrics/plots/b.png", "metrics/plots/deeper/c.png"}


def record(folder: Path, stage: str, path: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    lock = yaml.load((folder / "dvc.lock").read_bytes())
    lock["stages"][stage] = {"cmd": "true", "outs": [{"path": path, "md5": md5(folder / path)}]}
    with (folder / "dvc.lock").open("w") as file:
        yaml.dump(lock, file)


def test_folders_are_hashed_as_dvc_does(project):
    recorded = outputs(read_lock(project.folder / "dvc.lock"))
    for path in ("data/raw", "data/sample_images", "data/sample_labels.json"):
        assert md5(project.folder / path) == recorded[path]


@pytest.mark.parametrize("text", ["", "stages: [", "stages: {train: {outs: [{path: a}]}}"])
def test_a_damaged_lock_is_an_error_for_a_person(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(UserError, match=r"dvc\.lock cannot be read"):
        read_lock(tmp_path / "dvc.lock")


# -------------------------------------------------------------------------------------------------------- verdicts

SAME, MODEL = Outcome("data/raw"), Outcome("models/a.keras", "uncompared")
WITHIN = [Outcome(f"metrics/{gap}.json", "within", gaps={"loss": gap}) for gap in (0.001, 0.002, 0.0005)]
BEYOND = Outcome("metrics/c.json", "beyond", gaps={"loss": 0.3})


@pytest.mark.parametrize(
    ("outcomes", "tolerant", "reproduced", "words"),
    [
        ([SAME, SAME], False, "bits", "reproduced to the bit: 2 of 2"),
        ([SAME, SAME], True, "bits", "reproduced to the bit: 2 of 2"),
        ([SAME, MODEL, *WITHIN], True, "tolerance", "reproduced within tolerance: 1 of 5"),
        ([SAME, MODEL, *WITHIN], False, "no", "not reproduced: 1 of 5"),
        ([SAME, BEYOND, *WITHIN], True, "no", "not reproduced: 1 of 5"),
        ([SAME, BEYOND, *WITHIN], False, "no", "not reproduced: 1 of 5"),
    ],
)
def test_verdicts(outcomes, tolerant, reproduced, words):
    found, line = verdict(outcomes, tolerant)
    assert found == reproduced
    assert line.startswith(words)


def test_the_verdict_gives_the_greatest_difference_and_says_what_another_platform_would_accept():
    _, line = verdict([SAME, *WITHIN], tolerant=False)
    assert "loss 0.002 (allowed 0.02)" in line
    assert "would pass on another platform" in line
    assert "would pass" not in verdict([BEYOND, *WITHIN], tolerant=False)[1]


def test_the_users_settings_of_git_do_not_keep_it_from_cloning(toy):
    forbidden = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "never"}
    settings = {"GIT_DEFAULT_HASH": "sha256", "GIT_ALLOW_PROTOCOL": "https"} | forbidden
    assert "reproduced to the bit" in toy.make("verify", **settings)


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs")
def test_what_git_lfs_keeps_is_compared_too(toy, tmp_path):
    toy.environment = toy.environment | {"GIT_CONFIG_GLOBAL": str(tmp_path / "config")}
    toy.run("git", "lfs", "install", "--skip-repo")
    toy.run("git", "lfs", "track", "metrics/*.json")
    toy.run("git", "add", "--renormalize", ".")
    toy.commit("metrics in Git LFS")
    assert "git-lfs" in toy.run("git", "show", "HEAD:metrics/mlp.json")
    assert "reproduced to the bit" in toy.make("verify")


def test_what_the_users_own_list_kept_out_of_the_commit_is_missing(toy, tmp_path):
    """Such as `*.csv` in ~/.config/git/ignore."""
    (tmp_path / "ignore").write_text("new.*\n")
    (tmp_path / "config").write_text(f"[core]\nexcludesFile = {tmp_path}/ignore\n")
    toy.environment = toy.environment | {"GIT_CONFIG_GLOBAL": str(tmp_path / "config")}
    toy.set_models(toy.models | {"new": toy.models["mlp"]})
    toy.repro()
    toy.commit("new")
    assert "different  metrics/new.json  (is missing in the commit" in toy.make("verify", status=2)


def test_mirrors_keep_their_places_in_the_clone_whoever_they_name(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETS_MIRROR", "http://127.0.0.1/a\nhere\n~nosuchuser/x\n/srv/files")
    made = verify.clean_environment(tmp_path)["ASSETS_MIRROR"].splitlines()
    assert made[:4] == ["http://127.0.0.1/a", str(ROOT / "here"), str(ROOT / "~nosuchuser/x"), "/srv/files"]
