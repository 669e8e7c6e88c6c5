"""What README.md claims is what metrics/ and the files say."""

import re

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT
from tools.docs.readme import FILES, updated

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_tables_tell_what_the_files_say(path):
    """A version that is new in params.yaml, or not trained yet, may be missing in them."""
    text = path.read_text()
    assert "written by `make readme`" in text
    assert set(text.splitlines()) <= set(updated(text).splitlines()), "run `make readme`"


def test_every_linked_file_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_example_version_is_valid(tmp_path):
    from stages.common.params import load_params

    block = re.search(r"```yaml\n(models:\n.*?)```", README, re.DOTALL).group(1)
    path = tmp_path / "params.yaml"
    YAML().dump(YAML().load(ROOT / "params.yaml") | YAML().load(block), path)
    assert list(load_params(path).models) == ["small_cnn"]
