"""Options from a file: TOML, or the record that a training leaves in its run folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from rlchat.errors import UserError

Options = TypeVar("Options")
# What a training's record says for other verbs as well; the rest is about the training.
SHARED = ("env", "users", "knowledge", "stated_style", "policy", "seed", "rollout")
# Options that trainings recorded under an earlier name.
RENAMED: Mapping[str, str] = {"reward.span": "reward.granularity"}
_KINDS: Mapping[object, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text in quotes"),
    Path: ((str,), "a path in quotes"),
}


def config_places(words: Sequence[str]) -> list[Path]:
    """Files that ``--config`` names among words of the command line."""
    places = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name == "--config" and (equals or following):
            places.append(Path(value if equals else following))
    return places


def default_options(kind: type[Options], verb: str, places: Sequence[Path]) -> Options:
    """Options as files say, and as the class says where no file does; not checked yet.

    They are what the command line's words change, so that only the whole is checked: one setting
    may be right only together with another.

    Args:
        kind: the verb's options, a dataclass.
        verb: its name.
        places: TOML files, run folders or their records; later ones win.

    Raises:
        UserError: a file that cannot be read, or an option that there is not.
    """
    options = _unchecked(kind, {})
    for place in places:
        options = _changed(options, _read(place, verb), _Source(place, verb))
    return options


class _Source:
    """A file, for what is wrong in it."""

    def __init__(self, place: Path, verb: str):
        self.place, self.verb = place, verb

    def unknown(self, name: str, known: Sequence[str]) -> UserError:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return UserError(
            f"expected options of rlchat {self.verb} in {self.place}; got {name}; {hint}"
            f"rlchat {self.verb} --help lists them"
        )

    def wrong(self, name: str, what: str, got: object) -> UserError:
        shown = str(got).lower() if isinstance(got, bool) else repr(got)
        return UserError(
            f"expected {what} for {name} in {self.place}; got {shown}; rlchat {self.verb} --help "
            "explains it"
        )


def _read(place: Path, verb: str) -> dict[str, Any]:
    """Read a file of options; of a training's record, those that the verb has too."""
    path = place / "config.json" if place.is_dir() else place
    try:
        text = path.read_text("utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no table of options")
    except (OSError, ValueError) as error:  # a TOML or JSON error is a ValueError
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"expected a TOML file, a run folder or its config.json after --config; got {place} "
            f"({why}); name another file or mend this one"
        ) from error
    if "resolved" not in found:
        return found
    own = {key: value for key, value in found.items() if key not in ("resolved", "resume")}
    for old, new in RENAMED.items():
        (group, name), renamed = old.split("."), new.partition(".")[2]
        options = own.get(group)
        if isinstance(options, dict) and name in options:
            own[group] = {renamed if k == name else k: v for k, v in options.items()}
    if verb == "sweep":
        return {k: v for k, v in own.items() if k not in ("run", "seed", "evaluation")}
    return own if verb == "train" else {k: v for k, v in own.items() if k in SHARED}


def _changed(options: Options, found: Mapping[str, Any], source: _Source, of: str = "") -> Options:
    """Options with what a file says of them."""
    hints = get_type_hints(type(options), include_extras=True)
    known = [f.name for f in fields(options)]  # type: ignore[arg-type]
    values = {name: getattr(options, name) for name in known}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in values:
            raise source.unknown(_shown(of + key), [_shown(of + k) for k in known])
        if is_dataclass(values[name]):
            if not isinstance(value, dict):
                raise source.wrong(_shown(of + key), "a table of options", value)
            values[name] = _changed(values[name], value, source, f"{of}{name}.")
        else:
            values[name] = _converted(value, hints[name], source, _shown(of + key))
    return _unchecked(type(options), values)


def _converted(value: object, hint: Any, source: _Source, name: str) -> Any:
    """A value of a file as an option's type wants it."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        if value is None or value == "None":  # TOML has no word for it; the command line says None
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise source.wrong(name, f"one of {', '.join(map(str, get_args(hint)))}", value)
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise source.wrong(name, "a list", value)
        return tuple(_converted(one, get_args(hint)[0], source, name) for one in value)
    kinds, what = _KINDS[hint]
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise source.wrong(name, what, value)
    return hint(value)


def _unchecked(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """An instance of a dataclass whose settings nobody has looked at yet."""
    made = object.__new__(kind)
    for one in fields(kind):  # type: ignore[arg-type]
        value = values[one.name] if one.name in values else _default(one)
        object.__setattr__(made, one.name, value)
    return made


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return tyro.MISSING if one.default_factory is MISSING else one.default_factory()


def _shown(name: str) -> str:
    """An option's name as on the command line."""
    return name.replace("_", "-")
