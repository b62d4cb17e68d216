"""A grid: options of a training by their command-line names, and the values that they take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlchat.errors import UserError
from rlchat.training.config import TrainConfig

ONLY = "default"
"""Name of the setting where there is no grid."""
_OWN = {
    "run": "which the sweep sets; name its folder with --out",
    "seed": "which the sweep sets; name seeds with --seeds",
    "resume": "which the sweep sets; the same command goes on",
    "evaluation": "which is the same for all runs; give it as --evaluation",
    "track": "which changes no number; give it as --track",
}
_WORDS: Mapping[str, bool] = {"true": True, "false": False}
_LONGEST = 120  # characters of a folder's name


@dataclass(frozen=True)
class Setting:
    """One point of a grid.

    Attributes:
        name: the options that tell it apart, as they were written.
        config: all options of a training.
    """

    name: str
    config: TrainConfig

    @property
    def folder(self) -> str:
        """A name for its folder: readable, and another one for another setting."""
        plain = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", self.name).strip("_.")
        if plain == self.name and len(plain) <= _LONGEST:
            return plain
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{plain[:_LONGEST]}-{digest}"


def settings_of(base: TrainConfig, grid: Sequence[str]) -> list[Setting]:
    """Every combination of values, the last option changing fastest.

    Args:
        base: has the options that the grid does not name.
        grid: entries such as ``ppo.beta=0.01,0.1``.

    Raises:
        UserError: an entry that cannot be read, or a point that is no setting or is there twice.
    """
    hints = dict(_options(type(base)))
    entries = [_entry(entry, hints) for entry in grid]
    names = [name for name, _ in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"expected each option once in --grid; got {twice} twice; put all its values into one "
            "entry"
        )
    found: list[Setting] = []
    for texts in product(*(texts for _, texts in entries)):
        point = dict(zip(names, texts, strict=True))
        name = ",".join(f"{option}={text}" for option, text in point.items()) or ONLY
        setting = Setting(name, _at(base, point, hints, name))
        if same := next((s for s in found if s.config == setting.config), None):
            raise UserError(
                f"expected points that differ in --grid; {same.name} and {name} are the same; "
                "leave one out"
            )
        found.append(setting)
    return found


def check_name(name: str, known: Sequence[str]) -> str:
    """The name of a setting, if there is one.

    Raises:
        UserError: there is none.
    """
    if name in known:
        return name
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"expected --against {' or '.join(known[:4])}; got {name!r}{hint}")


def _options(kind: type[Any], of: str = "") -> Iterator[tuple[str, Any]]:
    """Names of all options as on the command line, groups' included, with their types."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        name = of + one.name.replace("_", "-")
        if is_dataclass(hints[one.name]):
            yield from _options(hints[one.name], f"{name}.")
        else:
            yield name, hints[one.name]


def _entry(entry: str, known: Mapping[str, Any]) -> tuple[str, list[str]]:
    """An option's name and its values as text."""
    name, equals, told = entry.partition("=")
    name = name.strip().removeprefix("--").replace("_", "-")
    texts = [text.strip() for text in told.split(";" if ";" in told else ",")]
    if not equals or not name or not all(texts):
        raise UserError(
            f"expected option=value,value in --grid, as in ppo.beta=0.01,0.1; got {entry!r}"
        )
    if name in _OWN:
        raise UserError(
            f"expected options in --grid that tell settings apart; got {name}, {_OWN[name]}"
        )
    if name not in known:
        near = get_close_matches(name, known, n=1) or [
            one for one in known if one.rpartition(".")[2] == name.rpartition(".")[2]
        ]
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"expected an option of rlchat train in --grid; got {name}; {hint}rlchat sweep --help "
            "lists them"
        )
    return name, texts


def _at(
    base: TrainConfig, point: Mapping[str, str], hints: Mapping[str, Any], told: str
) -> TrainConfig:
    """The settings of a point; only the whole is checked."""
    changes: dict[str, Any] = {}
    for option, text in point.items():
        *groups, name = option.replace("-", "_").split(".")
        own = changes
        for group in groups:
            own = own.setdefault(group, {})
        own[name] = _read(text, hints[option], option)
    try:
        changed: TrainConfig = _changed(base, changes)
        return changed
    except UserError as error:
        raise UserError(f"{error}, in the point {told} of --grid") from None


def _changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Settings with other values: those of a group are a mapping, and are changed together."""
    values = {
        name: _changed(getattr(settings, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(settings, **values)


def _read(text: str, hint: Any, option: str) -> Any:
    """A value as an option's type wants it."""
    if get_origin(hint) in (Union, UnionType):
        if text == "None":
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in get_args(hint)}
        if text not in choices:
            raise _unreadable(f"one of {', '.join(choices)}", text, option)
        return choices[text]
    if hint is bool:
        if text.lower() not in _WORDS:
            raise _unreadable("true or false", text, option)
        return _WORDS[text.lower()]
    if hint in (str, Path):
        return hint(text)
    try:
        return hint(text)
    except ValueError:
        what = "a whole number" if hint is int else "a number"
        raise _unreadable(what, text, option) from None


def _unreadable(what: str, text: str, option: str) -> UserError:
    return UserError(f"expected {what} for {option} in --grid; got {text!r}")
