"""YAML: what is read as what, and files that are no YAML or would take the machine with them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common import yaml_files
from stages.common.cli import UserError
from stages.common.yaml_files import load_yaml
from tests.conftest import little_memory

LIMIT = 1 << 18


@pytest.fixture
def load(tmp_path):
    """`load(text)`: what a file with this text or these bytes holds."""

    def load(text: str | bytes, **options):
        path = tmp_path / "file.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_yaml(path, LIMIT, **options)

    return load


def test_numbers_texts_and_repeated_blocks_are_read_as_yaml_1_2_says(load):
    assert load("a: 1e-3\nb: no\nc: 0o17\nd: 1:30") == {"a": 0.001, "b": "no", "c": 15, "d": "1:30"}
    assert load("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: [*x, *x]")["y"] == {"a": 1, "b": 3}
    assert load("") is None


def bomb(line: str, levels: int) -> str:
    """Nine copies of a nine-fold block, of a nine-fold block, ...: 9 to the power of `levels` values in a few lines."""
    return "".join(line.format(i, ", ".join([f"*a{i - 1}" if i else "x"] * 9)) for i in range(levels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("a{0}: &a{0} [{1}]\n", 30), "line 5: more than 10000 keys and values"),
        ("a0: &a0 {x: 1}\n" + bomb("a{0}: &a{0} {{<<: [{1}]}}\n", 30).partition("\n")[2], "more than 10000 keys"),
        ("- x\n" * 20_000, "line 10000: more than 10000 keys and values"),
        ("[" * 100_000, "line 1: .* more than 20 blocks inside each other"),
        ("{a: " * 60_000, "line 1: .* more than 20 blocks inside each other"),
        ("- " * 100_000, "line 1: .* more than 20 blocks inside each other"),
        ("\n".join(" " * i + "a:" for i in range(500)), "line 21: .* more than 20 blocks inside each other"),
        ("a: &a [1, *a]", r"the alias \*a stands for nothing, or for a block that it is part of"),
        ("- &a [1]\n- &a [*a, *a]", r"the alias \*a stands for nothing, or for a block"),
        ("a: *missing", r"the alias \*missing stands for nothing"),
        ("#" * (LIMIT + 1), f"larger than {LIMIT} bytes"),
        ("a: 1\nb: 2\na: 3", 'line 3: found duplicate key "a"'),
        ("a: [1, 2\nb: 3", r"line 1 to 2: .*: 'a: \[1, 2'; write `key: value`"),
        ("a: 1\n\tb: 2", r"line 2: .*: '\\tb: 2'; write `key: value`"),
        ("a: 1\nb:2\nc: 3", "line 2 to 3: .*: 'b:2'; write `key: value`"),
        (b"a: \xff\xfe", "unacceptable character"),
        ("a: \0", "unacceptable character"),
        ("a: 1\n---\na: 2", "line 2: but found another document"),
        ("a: " + "9" * 5000, "4300 digits"),
        ('a: "\\UFFFFFFFF"', "(too large|not in range)"),
        ("a: !!int x", "invalid literal for int"),
        ("<<: 5", "expected a mapping or list of mappings for merging"),
        ("? {a: 1}\n: 2", "unhashable key"),
    ],
    ids=[
        "an anchor bomb",
        "a bomb of merged blocks",
        "too many values",
        "lists 100,000 deep",
        "blocks 60,000 deep",
        "dashes 100,000 deep",
        "indents 500 deep",
        "a list within itself",
        "an alias that grows within itself",
        "an alias of nothing",
        "too long",
        "a key twice",
        "a bracket left open",
        "a tab",
        "no space behind a colon",
        "no UTF-8",
        "a zero byte",
        "two documents",
        "a number of 5,000 digits",
        "a character beyond Unicode",
        "a tag that does not fit",
        "a merge of a number",
        "a block as key",
    ],
)
def test_a_file_that_is_no_yaml_or_far_too_large_is_refused_with_its_line(load, text, message, monkeypatch):
    monkeypatch.setattr(yaml_files, "MAX_NODES", 10_000)  # reached sooner
    with pytest.raises(UserError, match=rf"(?s)file\.yaml: .*{message}"):
        load(text)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"])
def test_a_tag_that_asks_for_code_runs_nothing(load, tag, tmp_path):
    with pytest.raises(UserError, match=r"line 2: could not determine a constructor for the tag"):
        load(f"a: 1\nb: {tag} ['touch {tmp_path}/ran']")
    assert not (tmp_path / "ran").exists()


def test_aliases_can_be_ruled_out(load):
    assert load("a: &x 1\nb: 2", aliases=False) == {"a": 1, "b": 2}
    with pytest.raises(UserError, match=r"aliases .* are not allowed"):
        load("a: &x 1\nb: *x", aliases=False)


PARTS = "&a |*a|!!int |!!float |!!omap |!!set |<<: |? |- |: |\n|\t|>-|{|}|[|]|,|'|\"|\\U|%YAML |---|0x|1e9|#|~|é|\0"


@settings(max_examples=150)
@given(st.binary(max_size=100) | st.lists(st.sampled_from(PARTS.split("|")) | st.text(max_size=2)).map("".join))
def test_any_bytes_give_a_value_or_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        with little_memory(100_000_000):
            assert size(load_yaml(path, LIMIT)) <= yaml_files.MAX_NODES
    except UserError as error:
        assert str(path) in str(error)


def size(value: object) -> int:
    """How many keys and values there are, each as often as it can be reached."""
    if isinstance(value, dict):
        return 1 + sum(size(key) + size(part) for key, part in value.items())
    return 1 + sum(map(size, value)) if isinstance(value, list | tuple | set) else 1


def test_the_count_of_values_is_right_for_random_aliases(load, monkeypatch):
    """The limit holds for what the aliases stand for, so one more is refused and one less is not."""
    draw = random.Random(7)
    lines = ["- &a0 [1, 2]"]
    lines += [f"- &a{i} [{', '.join(f'*a{draw.randrange(i)}' for _ in range(3))}]" for i in range(1, 6)]
    text = "\n".join(lines)
    monkeypatch.setattr(yaml_files, "MAX_NODES", size(load(text)))
    load(text)
    monkeypatch.setattr(yaml_files, "MAX_NODES", yaml_files.MAX_NODES - 1)
    with pytest.raises(UserError, match="more than"):
        load(text)


def test_conflict_markers_are_called_so(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\n<<<<<<< HEAD\nthreads: 2\n=======\nthreads: 4\n>>>>>>> other\n")
    with pytest.raises(UserError, match=r"params.yaml, line 2: conflict markers of a Git merge; keep what is right"):
        load_yaml(path, 1000)
    path.write_text("shifted: [1 << 2]\ntext: '<<<<<<< quoted'\n")
    assert load_yaml(path, 1000)["text"] == "<<<<<<< quoted"
