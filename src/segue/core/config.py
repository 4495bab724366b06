"""Typed configuration from YAML: pydantic models, ``--set a.b=c``, and errors that name the line.

Unknown keys are errors, answered with the nearest known one and the line of the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from segue.core.errors import SegueError, UsageError


class Settings(BaseModel):
    """Base of everything that a person writes in YAML: frozen, and no key is silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


Model = TypeVar("Model", bound=Settings)
KeyPath = tuple[str | int, ...]

# libyaml's loader where PyYAML was built with it: ten times faster on the large cards.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_KEYS = 500_000


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Read a YAML mapping and the line (from 1) of every key in it.

    Raises:
        UsageError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError("no such file", where=path, remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("this file cannot be read as text", where=path, value=error) from error
    try:
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[KeyPath, int] = {}
        content = None
        if node is not None:
            _collect_lines(node, (), lines, path)
            content = yaml.constructor.SafeConstructor().construct_document(node)
    except RecursionError:
        raise UsageError("not valid here: it is nested too deeply", where=path, remedy="write it flatter") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        problem = getattr(error, "problem", None) or "syntax error"
        raise UsageError(f"not valid YAML: {problem}", where=where, remedy="mend this line") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UsageError("a mapping of keys to values is expected", where=path, value=f"found {type(content).__name__}")
    return content, lines


def _collect_lines(node: yaml.Node, prefix: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError("a key must be a word", where=f"{path}:{key.start_mark.line + 1}", remedy="name it")
            here = (*prefix, key.value)
            if here in lines:
                raise UsageError(
                    f"the key '{key.value}' stands here twice",
                    where=f"{path}:{key.start_mark.line + 1}",
                    value=f"first on line {lines[here]}",
                    remedy="remove one of the two",
                )
            lines[here] = key.start_mark.line + 1
            if len(lines) > _MOST_KEYS:  # aliases of aliases: a few lines can stand for as many as they like
                raise UsageError("this file holds too much", where=path, value=f"more than {_MOST_KEYS} keys")
            _collect_lines(value, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[(*prefix, number)] = value.start_mark.line + 1
            if len(lines) > _MOST_KEYS:
                raise UsageError("this file holds too much", where=path, value=f"more than {_MOST_KEYS} keys")
            _collect_lines(value, (*prefix, number), lines, path)


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``["train.learning_rate=1e-3"]`` as a nested mapping; values are read as YAML.

    Raises:
        UsageError: an assignment without ``=``, or a value that is not YAML.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name.strip():
            raise UsageError(
                "--set wants key=value", where=f"--set {assignment}", remedy="for example --set train.batch=2"
            )
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise UsageError("the value is not valid YAML", where=f"--set {assignment}") from error
        if isinstance(value, str):
            value = _number(value)
        place = result
        *parents, last = name.strip().split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"'{parent}' has a value already", where=f"--set {assignment}")
        place[last] = value
    return result


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-3 (no dot) as a string; nobody who types it means one.
    try:
        return float(text)
    except ValueError:
        return text


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def load_settings(model: type[Model], path: Path | None = None, *, values: dict[str, Any] | None = None) -> Model:
    """Read ``path`` (if given), lay ``values`` on it, and validate as ``model``.

    Raises:
        UsageError: naming the file, the line, the value found and what was expected.
    """
    content, lines = read_yaml(path) if path else ({}, {})
    return validate(model, merged(content, values or {}), source=path, lines=lines)


def validate(
    model: type[Model],
    content: dict[str, Any],
    *,
    source: object = None,
    lines: dict[KeyPath, int] | None = None,
) -> Model:
    """Validate plain values as ``model``; the first problem is told in words (see :func:`load_settings`)."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _readable(error, model, source, lines or {}) from error


def _readable(error: ValidationError, model: type[BaseModel], source: object, lines: dict[KeyPath, int]) -> SegueError:
    problems = error.errors()
    # An unknown key is most often a typo, and the true cause of a missing one beside it.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location: KeyPath = tuple(problem["loc"])
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
    if source is None:
        where: object = "settings"
    else:
        where = f"{source}:{line}" if line else source
    name = ".".join(str(part) for part in location if not str(part).startswith("function-"))
    more = f"; {len(problems) - 1} more problem(s) in the same place" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        remedy = f"did you mean '{near[0]}'?" if near else f"known keys here: {', '.join(known)}"
        return UsageError(f"unknown key '{name}'", where=where, remedy=remedy)
    if problem["type"] == "missing":
        return UsageError(f"the key '{name}' is missing{more}", where=where, remedy=f"add '{name}: ...'")
    if problem["type"] == "value_error":
        what = str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
        if not location:  # a rule over several keys begins with the key that it blames
            key = what.partition(":")[0]
            where = f"{source}:{lines[(key,)]}" if (key,) in lines else where
        return UsageError(f"{name}: {what}{more}" if name else what + more, where=where)
    return UsageError(
        f"{name}: {problem['msg'][:1].lower()}{problem['msg'][1:]}{more}",
        where=where,
        value=f"found {problem['input']!r}"[:200],
    )


def _known_keys(model: type[BaseModel], location: KeyPath) -> list[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and current is not None and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return list(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found:
            return found
    return None
