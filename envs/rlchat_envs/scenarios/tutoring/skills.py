"""What is taught: skills, their misconceptions, and the patterns by which talk of them is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import yaml

Sided = Mapping[str, tuple[str, ...]]  # wordings by side of the split


@dataclass(frozen=True)
class Mistake:
    """A misconception: how it is talked about, and what puts it right."""

    name: str
    belief: str
    said: Sided  # how a student tells what they did
    explain: tuple[str, ...]  # how an agent puts it right
    explained: tuple[tuple[re.Pattern[str], ...], ...]  # one of these, all patterns found

    def is_explained(self, text: str) -> bool:
        """Whether a text explains what this misconception gets wrong."""
        return any(all(p.search(text) for p in patterns) for patterns in self.explained)


@dataclass(frozen=True)
class Skill:
    """Something that a lesson is about; ``needs`` names the skills to be learnt before it."""

    name: str
    needs: tuple[str, ...]
    topics: Sided  # how a student names it in the opening
    text: str  # of the textbook
    hints: tuple[str, ...]
    mistakes: Mapping[str, Mistake]
    named: re.Pattern[str]
    loosely: re.Pattern[str] | None
    unless: re.Pattern[str]
    nudged: re.Pattern[str]

    def explained(self, text: str) -> tuple[str, ...]:
        """The misconceptions that a text puts right."""
        if self.unless.search(text):
            return ()
        return tuple(name for name, m in self.mistakes.items() if m.is_explained(text))


@lru_cache(20_000)
def explanations(text: str) -> Mapping[str, tuple[str, ...]]:
    """The skills that a text explains, and the misconceptions that it puts right in each."""
    found = {name: skill.explained(text) for name, skill in skills().items()}
    return {name: mistakes for name, mistakes in found.items() if mistakes}


@cache
def load_data(name: str) -> dict[str, Any]:
    """Read one of the scenario's YAML files."""
    text = (
        resources.files("rlchat_envs.scenarios.tutoring")
        .joinpath(f"{name}.yaml")
        .read_text("utf-8")
    )
    return dict(yaml.safe_load(text))


@cache
def skills() -> Mapping[str, Skill]:
    """Every skill by its name, the easier ones of a field first."""
    data = load_data("skills")
    return {name: _skill(name, fields, data["words"]) for name, fields in data["skills"].items()}


def _skill(name: str, fields: Mapping[str, Any], words: Mapping[str, str]) -> Skill:
    def pattern(patterns: Iterable[str]) -> re.Pattern[str]:
        joined = "|".join(f"(?:{p})" for p in patterns)
        return re.compile(re.sub(r"<(\w+)>", lambda m: words[m[1]], joined))

    mistakes = {
        called: Mistake(
            called,
            m["belief"],
            _sided(m["said"]),
            tuple(m["explain"]),
            tuple(tuple(pattern([p]) for p in patterns) for patterns in m["explained"]),
        )
        for called, m in fields["mistakes"].items()
    }
    return Skill(
        name,
        tuple(fields["needs"]),
        _sided(fields["topics"]),
        fields["text"],
        tuple(fields["hints"]),
        mistakes,
        pattern(fields["named"]),
        pattern(fields["loosely"]) if fields["loosely"] else None,
        pattern([fields["unless"]]),
        pattern(fields["nudged"]),
    )


def _sided(lines: Mapping[str, list[str]]) -> Sided:
    return {side: tuple(said) for side, said in lines.items()}
