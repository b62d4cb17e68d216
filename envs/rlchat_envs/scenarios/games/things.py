"""The things that can be thought of, and what is true of each: our own attribute graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from rlchat_envs.scenarios.games.data import load_data

_ASKED = re.compile(r"(Is|Does|Can|Would|Could) it (.+)\?")
_VOWEL = re.compile("[aeiou]")


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something that is true of some things: the question about it, and those things."""

    name: str
    ask: str
    things: frozenset[str]

    def states(self, holds: bool) -> str:
        """Say that it is so, or that it is not.

        >>> Attribute("fly", "Can it fly?", frozenset()).states(False)
        "it can't fly"
        """
        verb, rest = self._parts
        return f"it {verb if holds else _negated(verb)} {rest}"

    @property
    def triple(self) -> tuple[str, str]:
        """Relation and object of the triples of what it is true of."""
        return self._parts

    @property
    def _parts(self) -> tuple[str, str]:
        found = _ASKED.fullmatch(self.ask)
        assert found, self.ask
        return found[1].lower(), found[2]


@dataclass(frozen=True)
class Things:
    """All things, their other names, and their attributes."""

    names: tuple[str, ...]
    also: Mapping[str, tuple[str, ...]]
    bare: frozenset[str]
    attributes: Mapping[str, Attribute]

    def called(self, name: str) -> str:
        """A thing with its article: "an eagle", "bread"."""
        if name in self.bare:
            return name
        return f"{'an' if _VOWEL.match(name) else 'a'} {name}"

    def true_of(self, name: str) -> tuple[str, ...]:
        """The attributes of a thing."""
        return tuple(a.name for a in self.attributes.values() if name in a.things)

    @cached_property
    def by_any_name(self) -> dict[str, str]:
        """Things by all their names, in lower case and without hyphens."""
        names = {name: name for name in self.names}
        names |= {other: name for name, others in self.also.items() for other in others}
        return {name.replace("-", " "): thing for name, thing in names.items()}


@cache
def load_things() -> Things:
    """Read the graph.

    Raises:
        ValueError: an attribute of a thing, or of a kind, that is nowhere listed.
    """
    data = load_data("things")
    kinds = {kind: _listed(names) for kind, names in data["things"].items()}
    groups = {
        group: tuple(name for kind in _listed(members) for name in kinds[kind])
        for group, members in data["groups"].items()
    }
    names = tuple(name for members in kinds.values() for name in members)
    return Things(
        names,
        {name: _listed(others) for name, others in data["also"].items()},
        frozenset(_listed(data["bare"])),
        {
            name: Attribute(
                name, field["ask"], _extension(name, field["of"], names, kinds | groups)
            )
            for name, field in data["attributes"].items()
        },
    )


def _extension(
    attribute: str, of: str, names: Sequence[str], groups: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """What an attribute is true of, from a list of kinds, groups, things and exceptions."""
    found: set[str] = set()
    for entry in _listed(of):
        plain = entry.removeprefix("-")
        meant = groups.get(plain, (plain,))
        if not set(meant) <= set(names):
            raise ValueError(
                f"expected kinds, groups or things for the attribute {attribute}; got {plain!r}; "
                "list it under things first"
            )
        found = found.difference(meant) if entry.startswith("-") else found.union(meant)
    return frozenset(found)


def _listed(text: Any) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in str(text).split(","))


def _negated(verb: str) -> str:
    return {"can": "can't"}.get(verb, f"{verb}n't")
