"""What README.md, docs/ and the comments of params.yaml claim is what metrics/ and the files say."""

import json
import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tools.docs.readme import FILES, updated

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").glob("*.md"))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What links may name on a page: its headings, as GitHub and GitLab write them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_tables_tell_what_the_files_say(path):
    """A version that is new in params.yaml, or not trained yet, may be missing in them."""
    text = path.read_text()
    assert "written by `make readme`" in text
    assert set(text.splitlines()) <= set(updated(text).splitlines()), "run `make readme`"


def test_without_results_the_missing_one_is_named(toy):
    output = toy.make("readme", status=2)
    assert "metrics/resnet50.json: no such file; run `dvc repro`" in output and "Traceback" not in output


@pytest.mark.parametrize("name", ["README.md", "dvc.yaml"])
def test_what_a_reader_meets_first_is_short(name):
    assert len((ROOT / name).read_text().splitlines()) <= 150


@pages
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pages
def test_every_file_that_is_named_exists(page):
    for name in re.findall(r"`((?:benchmarks|docs|stages|tests|tools)/[\w/.-]*)(?:::[^`]*)?`", prose(page)):
        assert (ROOT / name).exists(), name


@pages
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`|jax |:6379 )make ([a-z-]+)", page.read_text(), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pages
def test_every_page_but_the_readme_opens_with_the_question_that_it_answers(page):
    heading, question, *_ = page.read_text().split("\n\n")
    assert re.fullmatch("# [^\n]+", heading)
    assert "?" in question or page.name == "README.md"


def test_every_page_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in readme, page.name


def test_the_example_version_is_valid(tmp_path):
    from stages.common.params import load_params

    block = re.search(r"```yaml\n(models:\n.*?)```", (ROOT / "docs/usage.md").read_text(), re.DOTALL).group(1)
    path = tmp_path / "params.yaml"
    YAML().dump(YAML().load(ROOT / "params.yaml") | YAML().load(block), path)
    assert list(load_params(path).models) == ["small_cnn"]


def test_every_key_of_params_is_explained_with_its_default():
    from stages.common.params import ComputeSettings, Inference, Model, Replicates

    def default(value: object) -> str:
        if value is PydanticUndefined:
            return ""
        return f"`{value}`" if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else "none"

    usage = (ROOT / "docs/usage.md").read_text()
    for block, place in {ComputeSettings: "", Inference: "inference.", Replicates: "replicates.", Model: ""}.items():
        for name, field in block.model_fields.items():
            assert f"\n| `{place}{name}` | {default(field.default)}".rstrip() in usage, name


def test_the_comments_in_params_give_the_accuracy_over_seeds():
    text = (ROOT / "params.yaml").read_text()
    for line, version in re.findall(r"^  # (\d.*)\n  (\w+):$", text, re.MULTILINE):
        accuracy = json.loads((ROOT / f"replicates/results/{version}.json").read_text())["accuracy"]
        assert line.startswith(f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f} %, "), version
