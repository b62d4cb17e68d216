"""YAML in which every value knows its file, line and field, so that a mistake can be pointed at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import yaml


@dataclass(frozen=True, slots=True)
class Located:
    """A value of a YAML file: a mapping, a list or a text; numbers and words are texts too."""

    value: Mapping[str, Located] | Sequence[Located] | str
    file: str
    line: int  # the first is 1
    field: str  # as in problems.parcel.needs

    def wrong(self, expected: str, got: str = "") -> NoReturn:
        """Refuse the value.

        Raises:
            ValueError: always, with file, line and field.
        """
        where = f"{self.file}, line {self.line}" + (f", {self.field}" if self.field else "")
        raise ValueError(f"{where}: expected {expected}; got {got or self._shown()}")

    def text(self) -> str:
        """The value as a text that is not empty."""
        if not isinstance(self.value, str) or not self.value.strip():
            self.wrong("a text")
        return self.value

    def texts(self, least: int = 1) -> tuple[str, ...]:
        """The value as a list of texts; a single text is a list of one."""
        if isinstance(self.value, str):
            return (self.text(),)
        found = tuple(item.text() for item in self.items())
        if len(found) < least:
            self.wrong(f"a list of at least {least} text{'s' * (least > 1)}")
        return found

    def items(self) -> Sequence[Located]:
        """The value as a list."""
        if isinstance(self.value, str | Mapping):
            self.wrong("a list")
        return self.value

    def fields(
        self, needed: Iterable[str] = (), allowed: Iterable[str] | None = None
    ) -> Mapping[str, Located]:
        """The value as a mapping with these fields.

        Args:
            needed: fields that must be there.
            allowed: fields that may be there besides; any if None.
        """
        if not isinstance(self.value, Mapping):
            self.wrong("fields, as in name: value")
        needed = tuple(needed)
        for name in needed:
            if name not in self.value:
                self.wrong(f"a field {name}", f"only {', '.join(self.value) or 'nothing'}")
        if allowed is not None:
            known = {*needed, *allowed}
            for name, field in self.value.items():
                if name not in known:
                    field.wrong(f"fields out of {', '.join(sorted(known))}", repr(name))
        return self.value

    def one_of(self, known: Iterable[str], what: str) -> str:
        """The value as the name of something that there is."""
        known, name = tuple(known), self.text()
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.wrong(f"{what} out of {', '.join(known)}", f"{name!r}{hint}")
        return name

    def number(self, low: float, high: float) -> float:
        """The value as a number between two others."""
        try:
            number = float(self.text())
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            self.wrong(f"a number from {low:g} to {high:g}")
        return number

    def pattern(self) -> re.Pattern[str]:
        """The value, a text or several, as a regular expression that starts and ends at words."""
        try:
            return re.compile("|".join(rf"\b(?:{text})\b" for text in self.texts()))
        except re.error as error:
            self.wrong("words or a regular expression", f"one that does not compile: {error}")

    def _shown(self) -> str:
        if isinstance(self.value, str):
            return repr(self.value) if self.value else "nothing"
        return f"a list of {len(self.value)}" if not isinstance(self.value, Mapping) else "fields"


def read_located(path: Path) -> Located:
    """Read a YAML file.

    Raises:
        ValueError: it cannot be read, or is not YAML; says where.
    """
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"expected a readable UTF-8 file of YAML; got {path}: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ValueError(f"{path}, line {line}: expected YAML; {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML; {error}") from error
    if node is None:
        raise ValueError(f"{path}, line 1: expected fields, as in name: value; got nothing")
    return _located(node, str(path), "", set())


def _located(node: yaml.Node, file: str, field: str, above: set[int]) -> Located:
    line = node.start_mark.line + 1
    if id(node) in above:
        Located("", file, line, field).wrong("a value", "an alias of what it stands in")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Located] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            inner = f"{field}.{name}" if field else name
            if not name or name in found:
                place = Located("", file, key.start_mark.line + 1, inner)
                place.wrong("a name that occurs once", repr(name))
            found[name] = _located(value, file, inner, above)
        return Located(found, file, line, field)
    if isinstance(node, yaml.SequenceNode):
        listed = [_located(item, file, f"{field}[{i}]", above) for i, item in enumerate(node.value)]
        return Located(listed, file, line, field)
    assert isinstance(node, yaml.ScalarNode)
    return Located(str(node.value), file, line, field)
