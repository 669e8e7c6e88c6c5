"""The workflows: valid, safe for forks, and made of commands that run here too."""

import os
import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tests.project import Project

pytestmark = pytest.mark.slow

WORKFLOWS = {path.name: YAML(typ="safe").load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
STEPS = {name: workflow["jobs"][name.removesuffix(".yml")]["steps"] for name, workflow in WORKFLOWS.items()}
GITLAB = YAML(typ="safe").load((ROOT / ".gitlab-ci.yml").read_text())["ci"]
COMMANDS = [step["run"] for step in STEPS["ci.yml"] if "run" in step]


@pytest.mark.parametrize("schema", ["github-workflows", "gitlab-ci"])
def test_the_files_follow_their_published_schema(schema):
    files = [ROOT / ".gitlab-ci.yml"] if schema == "gitlab-ci" else (ROOT / ".github/workflows").glob("*.yml")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gitlab_runs_the_same_commands():
    assert GITLAB["script"] + GITLAB["after_script"] == COMMANDS


def test_gitlab_compares_with_itself_where_nothing_was_pushed():
    """CI_COMMIT_BEFORE_SHA is zeros in a pipeline that somebody, or a schedule, has started; the first rule counts."""
    bases = {rule["variables"]["BASE"]: rule["if"] for rule in GITLAB["rules"]}
    assert list(bases)[1:] == ["$CI_COMMIT_SHA", "$CI_COMMIT_BEFORE_SHA"]
    (pattern,) = re.findall("CI_COMMIT_BEFORE_SHA =~ /(.*)/", bases["$CI_COMMIT_SHA"])
    assert re.search(pattern, "0" * 40) and not re.search(pattern, "0" * 39 + "1")


def test_every_command_exists():
    makefile = (ROOT / "Makefile").read_text()
    others = [step["run"] for name in ("macos.yml", "verify.yml") for step in STEPS[name] if "run" in step]
    for command in COMMANDS + others:
        if command.startswith("make "):
            assert re.search(rf"^{command.removeprefix('make ')}: ", makefile, re.MULTILINE), command
        else:
            assert os.access(ROOT / command, os.X_OK), command
    assert STEPS["comment.yml"][-1]["run"].split()[1] == "tools/compare/comment.py"
    assert (ROOT / "tools/compare/comment.py").is_file()


def test_a_fork_gets_neither_secrets_nor_the_right_to_write():
    assert set(WORKFLOWS) == {"ci.yml", "comment.yml", "macos.yml", "verify.yml"}
    assert set(WORKFLOWS["ci.yml"]["on"]) == {"pull_request", "push"}
    for name in ("ci", "macos", "verify"):
        assert WORKFLOWS[f"{name}.yml"]["permissions"] == {"contents": "read"}
        assert "permissions" not in WORKFLOWS[f"{name}.yml"]["jobs"][name]
    for name, workflow in WORKFLOWS.items():
        text = (ROOT / ".github/workflows" / name).read_text()
        assert "secrets." not in text and "pull_request_target" not in text
        for step in STEPS[name]:
            assert "${{" not in step.get("run", ""), "text of others in a command is run"
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step.get("uses", "actions/x@" + "0" * 40))
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
        assert workflow["jobs"].keys() == {name.removesuffix(".yml")}


def test_the_comment_is_written_by_the_default_branch_with_the_least_rights():
    workflow, (checkout, download, comment) = WORKFLOWS["comment.yml"], STEPS["comment.yml"]
    assert workflow["on"] == {"workflow_run": {"workflows": [WORKFLOWS["ci.yml"]["name"]], "types": ["completed"]}}
    assert workflow["permissions"] == {}
    rights = {"actions": "read", "contents": "read", "pull-requests": "write"}
    assert workflow["jobs"]["comment"]["permissions"] == rights
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert download["with"]["path"].startswith("${{ runner.temp }}/")  # never over the code that is run
    assert download["with"]["name"] == STEPS["ci.yml"][-1]["with"]["name"]
    assert STEPS["ci.yml"][-1]["with"]["path"] == "report.md"
    assert comment["run"] == 'python3 tools/compare/comment.py "$RUNNER_TEMP/report/report.md"'


def test_each_runner_keeps_a_statement_of_its_own():
    workflow, (*_, keep) = WORKFLOWS["verify.yml"]["jobs"]["verify"], STEPS["verify.yml"]
    assert workflow["env"] == {"WHO": "${{ matrix.runner }}"}
    assert keep["with"] == {"name": "statement-${{ matrix.runner }}", "path": "verification/*/*.json"}
    assert keep["if"] == "${{ !cancelled() }}", "also where something else came out"
    assert len(set(workflow["strategy"]["matrix"]["runner"])) > 1


@pytest.fixture(scope="module")
def merged(small_project, tmp_path_factory) -> Project:
    """What CI checks out: the merge of a branch with another learning rate, whose author did not commit the results.

    The cache is empty, and a remote has what main records.
    """
    folder = tmp_path_factory.mktemp("ci")
    team = small_project.clone(folder / "team", cache=True)
    team.run("dvc", "remote", "add", "-d", "folder", str(folder / "remote"))
    team.run("dvc", "push", "--run-cache")
    team.commit("remote")
    team.run("git", "checkout", "-qb", "slow")
    team.edit("params.yaml", "learning_rate: 0.05", "learning_rate: 0.005")
    team.commit("slower")
    team.run("git", "checkout", "-q", "main")
    team.run("git", "merge", "-q", "--no-ff", "slow")
    team.run("git", "clone", "-q", "--depth=2", f"file://{team.folder}", str(folder / "checkout"))
    return team.at(folder / "checkout")


def test_the_steps_of_the_workflow_run(merged):
    """In its order; only .ci/run, which is what runs these tests, is left out."""
    assert COMMANDS == ["make ci-repro", "make ci-recorded", ".ci/run", "make gate", "make ci-report"]
    base = WORKFLOWS["ci.yml"]["jobs"]["ci"]["env"]
    links = {"BASE_URL": "https://example.org/1/{path}", "NOW_URL": "https://example.org/2/{path}"}
    page = merged.folder / "summary.md"

    output = merged.make("ci-repro", **base)
    assert set(merged.stages_run(output)) <= {"train@cnn", "evaluate@cnn", "plots", "report"}
    refused = merged.make("ci-recorded", status=2, **base)
    assert "error: commit what `dvc repro` gives; not in Git as it is here:" in refused
    assert " M dvc.lock" in refused and " M metrics/cnn.json" in refused and "mlp" not in refused

    merged.run("git", "commit", "-qam", "results", "--amend")  # as if the author had
    merged.make("ci-recorded", **base)
    assert "**worse**" in merged.make("gate", status=2, **base)
    merged.make("ci-report", GITHUB_STEP_SUMMARY=str(page), **base, **links)
    assert page.read_text() == (merged.folder / "report.md").read_text()
    assert page.read_text().startswith("## Results\n")
    assert "| models.cnn.optimizer.learning_rate | `0.05` | `0.005` |" in page.read_text()
    assert "https://example.org/1/metrics/plots/confusion_cnn.png" in page.read_text()


def test_a_clone_with_neither_remote_nor_cache_runs_what_git_has_not(toy_origin, tmp_path):
    """`dvc repro --pull` alone fails there."""
    clone = toy_origin.clone(tmp_path / "clone")
    assert clone.stages_run(clone.make("ci-repro")) == ["train@mlp", "train@cnn"]
    clone.make("ci-recorded")


@pytest.mark.parametrize("hidden", ["untracked", "ignored"])
def test_results_that_git_was_told_not_to_show_are_missed(toy, hidden):
    toy.make("ci-recorded")
    if hidden == "untracked":
        toy.run("git", "config", "status.showUntrackedFiles", "no")
    else:
        (toy.folder / ".git/info/exclude").write_text("*.csv\n*.part\n.DS_Store\n")
    for name in ("new.csv", "new.csv.part", ".DS_Store"):
        (toy.folder / "metrics/history" / name).touch()
        if hidden == "untracked":
            break
    _, *lines, _ = toy.make("ci-recorded", status=2).splitlines()
    assert [line[3:] for line in lines] == ["metrics/history/new.csv"]


@pytest.mark.parametrize("option", ["-w", "-C."])
def test_the_report_has_no_words_of_make(toy, option):
    toy.make(option, "ci-report")
    report = toy.folder / "report.md"
    assert report.read_text().startswith("## Results\n")
    toy.make(option, "ci-report", "BASE=nowhere", status=2)
    assert report.read_text().startswith("## Results\n"), "the last whole one stays"
