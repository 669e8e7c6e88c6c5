"""What a YAML file may hold, told in pydantic's classes, and every problem of a file in words that a person can act on."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from stages.common.cli import UserError


class Strict(BaseModel):
    """Base of all blocks: no unknown keys, no silent conversions ("3" is not 3), no infinity, no later change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def validate(path: Path | str, data: Any, schema: Any, named: Callable[[list], list] = list) -> Any:
    """The `data` of a YAML file as `schema` reads them: a `Strict` class, or a type made of them.

    `path` is named in messages; `named` turns the keys and indices that lead to a problem into those that a message
    names. Raises UserError with one line for each problem: the path of the key as `dvc exp run -S` takes it
    (`layers.1`), what is wrong, what is allowed, and the nearest valid name for a typo.
    """
    try:
        return TypeAdapter(schema).validate_python(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            location = [part for part in problem["loc"] if part != "[key]"]
            key = key_path(*map(str, named(location)))
            for below, text in _explain(problem, location, schema).items():
                lines.append(f"  {key_path(key, below) or 'the file'}: {text}")
        raise UserError("\n".join([f"{path}: {len(lines)} problem(s)", *lines])) from None


def key_path(*keys: str) -> str:
    """The path of a key in a file, from those of blocks, of which some may be empty."""
    return ".".join(filter(None, keys))


def refuse(problems: str | dict[str, str]) -> None:
    """Raise, in a validator, what is wrong with a block, or with each key path below it; return if nothing is."""
    problems = {"": problems} if isinstance(problems, str) else problems
    if problems:
        raise PydanticCustomError("refused", "{problems}", {"problems": problems})


def suggestion(name: Any, allowed: list[str], listed: bool = True) -> str:
    """The end of a message about a wrong name: what is allowed, if that is short, and the nearest of it."""
    lower = {candidate.lower(): candidate for candidate in allowed}
    best = lower.get(str(name).lower()) or next(iter(difflib.get_close_matches(str(name), allowed, n=1)), None)
    hint = f"; did you mean {best!r}?" if best else ""
    return (f"; allowed: {', '.join(allowed)}" if listed and len(allowed) <= 40 else "") + hint


def shorten(value: Any) -> str:
    """A value for messages, in at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print a number of more than 4300 digits
        return "a number far too long"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _explain(problem: dict[str, Any], location: list, schema: Any) -> dict[str, str]:
    """What one of pydantic's problems says, for each key path below its own."""
    kind, given = problem["type"], problem["input"]
    if kind == "refused":
        return problem["ctx"]["problems"]
    if kind == "extra_forbidden":
        text = "unknown key" + suggestion(location[-1], sorted(_block_at(schema, location[:-1]).model_fields))
    elif kind == "missing":
        text = "missing; add this key"
    elif kind == "value_error":
        text = problem["msg"].removeprefix("Value error, ")
    elif kind in ("model_type", "dict_type"):
        text = f"is {shorten(given)}; a block of `key: value` lines is needed"
    elif kind == "list_type":
        text = f"is {shorten(given)}; a list of `- entry` lines is needed"
    elif kind == "too_short":
        text = f"is {shorten(given)}; at least one entry is needed"
    else:
        text = f"is {shorten(given)}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
        if kind == "string_type" and given is not None:
            text += "; put it in quotes"
        elif kind in ("int_type", "float_type") and isinstance(given, str) and re.fullmatch(r"[+-]?[\d.]+", given):
            text += "; leave the quotes out"
    return {"": text}


def _block_at(schema: Any, location: list) -> type[BaseModel]:
    """The class of the block at this key path, through lists, maps and values that may be null."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _block_at(schema.model_fields[location[0]].annotation, location[1:]) if location else schema
    inner = get_args(schema)
    return _block_at(inner[-1], location[1:]) if get_origin(schema) in (list, dict) else _block_at(inner[0], location)
