"""YAML files written by people: read with limits, by the parser that DVC itself uses."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from stages.common.cli import UserError

MAX_DEPTH = 20  # of lists and blocks inside each other; the deepest that a real file needs is 9
MAX_NODES = 10_000  # keys and values, each alias counted as all that it stands for


def load_yaml(path: Path | str, max_bytes: int, aliases: bool = True) -> Any:
    """Read one YAML 1.2 document (1e-3 is a number, `no` is a text) into plain dicts, lists and values.

    A few lines of aliases or of nesting can take gigabytes or hours, so both are counted before anything is built.

    Args:
        max_bytes: the longest file to read.
        aliases: whether `*name` may repeat what `&name` marks.

    Raises:
        UserError: with the line of what is wrong: bad syntax, a duplicate key, a tag that asks for code, a limit.
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise UserError(f"{path}: larger than {max_bytes} bytes, the most that is read; make it smaller")
    refuse_conflict_markers(path, text)
    try:
        _check_size(text, aliases)
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"{path}: not valid YAML: {_problem(error)}") from None


def refuse_conflict_markers(path: Path | str, text: bytes) -> None:
    """UserError with the line, if a Git merge has left both sides in a file."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
            raise UserError(
                f"{path}, line {number}: conflict markers of a Git merge; keep what is right between `<<<<<<<` and "
                "`>>>>>>>`, remove the markers, then run `make merge`"
            )


def _check_size(text: bytes, aliases: bool) -> None:
    """ValueError beyond the limits; this reads event by event, so its own time and memory grow with the text alone."""
    nodes = 0
    sizes = {}  # anchor -> how many nodes it stands for
    blocks = []  # the open ones: (anchor, nodes before)
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, AliasEvent):
            if not aliases:
                raise ValueError("aliases (`*name`) are not allowed here")
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing, or for a block that it is part of")
            nodes += sizes[event.anchor]
        elif isinstance(event, CollectionStartEvent):
            blocks.append((event.anchor, nodes))
            sizes.pop(event.anchor, None)
            nodes += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = blocks.pop()
            sizes[anchor] = nodes - before
        elif isinstance(event, ScalarEvent):
            sizes[event.anchor] = 1
            nodes += 1
        if nodes > MAX_NODES or len(blocks) > MAX_DEPTH:
            raise ValueError(
                f"line {event.start_mark.line + 1}: more than {MAX_NODES} keys and values, "
                f"or more than {MAX_DEPTH} blocks inside each other"
            )


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    return f"line {mark.line + 1}: {problem}" if mark else problem
