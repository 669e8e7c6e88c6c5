"""YAML files written by people: read with limits, by the parser that DVC itself uses."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, Event, ScalarEvent
from ruamel.yaml.parser import Parser, ParserError
from ruamel.yaml.scanner import ScannerError

from stages.common.cli import UserError
from stages.common.schema import shorten

warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it
MAX_BYTES = 1 << 21  # thousands of versions
MAX_DEPTH = 20  # of lists and blocks inside each other; the deepest that a real file needs is 9
MAX_NODES = 100_000  # keys and values, each alias counted as all that it stands for


def load_yaml(path: Path | str, max_bytes: int = MAX_BYTES, aliases: bool = True) -> Any:
    """Read one YAML 1.2 document (1e-3 is a number, `no` is a text) into plain dicts, lists and values.

    A few lines of aliases or of nesting can take gigabytes or hours, so both are counted before anything is built.
    `aliases`: whether `*name` may repeat what `&name` marks. Raises OSError if the file cannot be read, and UserError
    with the line of what is wrong: bad syntax, a duplicate key, a tag that asks for code, a limit.
    """
    with open(path, "rb") as file:
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise UserError(f"{path}: larger than {max_bytes} bytes, the most that is read; make it smaller")
    refuse_conflict_markers(path, text)
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Parser = partial(_Limited, aliases)
        return yaml.load(text)
    except (YAMLError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"{path}: not valid YAML: {_problem(error, text)}") from None


def refuse_conflict_markers(path: Path | str, text: bytes) -> None:
    """UserError with the line, if a Git merge has left both sides in a file."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
            raise UserError(
                f"{path}, line {number}: conflict markers of a Git merge; keep what is right between `<<<<<<<` and "
                "`>>>>>>>`, remove the markers, then run `make merge`"
            )


class _Limited(Parser):
    """Raises ValueError at the first event beyond the limits, before anything is built of it."""

    def __init__(self, aliases: bool, loader: YAML):
        super().__init__(loader)
        self.aliases, self.nodes = aliases, 0
        self.sizes = {}  # anchor -> how many nodes it stands for
        self.blocks = []  # the open ones: (anchor, nodes before)

    def get_event(self) -> Event:
        """The next event, counted."""
        event = super().get_event()
        if isinstance(event, AliasEvent):
            if not self.aliases:
                raise ValueError("aliases (`*name`) are not allowed here")
            if event.anchor not in self.sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing, or for a block that it is part of")
            self.nodes += self.sizes[event.anchor]
        elif isinstance(event, CollectionStartEvent):
            self.blocks.append((event.anchor, self.nodes))
            self.sizes.pop(event.anchor, None)
            self.nodes += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = self.blocks.pop()
            self.sizes[anchor] = self.nodes - before
        elif isinstance(event, ScalarEvent):
            self.sizes[event.anchor] = 1
            self.nodes += 1
        if self.nodes > MAX_NODES or len(self.blocks) > MAX_DEPTH:
            raise ValueError(
                f"line {event.start_mark.line + 1}: more than {MAX_NODES} keys and values, "
                f"or more than {MAX_DEPTH} blocks inside each other"
            )
        return event


def _problem(error: Exception, text: bytes) -> str:
    """What the parser says; of bad syntax with the line in which it starts, where a tab shows as what it is."""
    mark = getattr(error, "problem_mark", None)
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    if isinstance(error, ScannerError | ParserError):
        start = (error.context_mark or mark).line
        line = "".join(text.decode(errors="replace").splitlines()[start : start + 1])
        return (
            f"line {start + 1}{f' to {mark.line + 1}' * (mark.line > start)}: {problem}: {shorten(line)}; write "
            "`key: value`, with spaces, no tabs, before the key and behind the colon, here and in the line before"
        )
    return f"line {mark.line + 1}: {problem}" if mark else problem
