"""What an agent's message states: numbers with their units, and names; tolerantly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from rlchat_envs.core.protocols import SPLITS
from rlchat_envs.nlu import cues
from rlchat_envs.nlu.lexicon import MAX_LENGTH
from rlchat_envs.nlu.words import fold, words
from rlchat_envs.scenarios.finance.products import load_facts

MAX_VALUES = 2  # in one message; a sheet read aloud is no answer
MAX_QUESTIONS = 2
NUMERIC = ("percent", "euros", "months", "class")

Stated = tuple[str, object]  # unit, or "" for a bare number; and a number or a name

_COUNTED = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)
_UNITS = {
    "percent": r"%|per ?cent|pct",
    "euros": r"euros?\b|eur\b|€",
    "months": r"months?\b",
    "years": r"years?\b",
    "days": r"(?:day|week)s?\b",
}
_VALUE = re.compile(
    r"(?P<class>\bclass (?:is |of |no )?|\bclass: )?(?P<money>€ ?|\beur )?(?<![\w.,])"
    rf"(?P<number>\d{{1,3}}(?: \d{{3}})+(?= ?(?:{_UNITS['euros']}))|\d+(?:[.,]\d+)*|[.,]\d+"
    rf"|(?:{'|'.join(_COUNTED)})\b)[ -]?"
    + "".join(f"(?P<{name}>{pattern})?" for name, pattern in _UNITS.items()),
    re.ASCII,
)
_SCALE = re.compile(r"\b(?:from |of )?1 ?(?:to|-) ?7\b|\b(?:out )?of 7\b|/ ?7\b")
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|can ?not|can t|isn t|doesn t|don t|didn t|won t)\b.*"
)
_ASKS = re.compile(
    r"\W*(?:is|are|does|do|did|can|could|would|should|may|what|which|how|who|where)\b"
)
_UNSURE = re.compile(
    r"\b(?:(?:not|don t|dont|can t|cannot) (?:know|sure|certain|say|tell|have)|no idea|unsure|"
    r"find (?:it |that |this )?out|look(?:ing)? (?:it |that |this )?up|check|moment|"
    r"let me (?:see|look|find|ask)|get back|colleague)\b"
)


def read(text: str, unit: str) -> tuple[str, frozenset[object]]:
    """What a message says to a question for a value with a unit.

    Args:
        text: the message.
        unit: of what is asked for: ``percent``, ``euros``, ``months`` or ``class``; or what kind
            of name it is: ``bank``, ``person`` or ``country``.

    Returns:
        ``states`` and the values; or none, and ``overwhelms`` (too long, or too much), ``unsure``
        (it says that it does not know) or ``evades``.
    """
    if len(text) > MAX_LENGTH or text.count("?") > MAX_QUESTIONS:
        return "overwhelms", frozenset()
    plain = fold(text).replace("\u2019", " ").replace("'", " ")
    stated = {found for clause in _statements(plain) for found in _values(clause)}
    if len(stated) > MAX_VALUES:
        return "overwhelms", frozenset()
    wanted = (unit, "") if unit in NUMERIC else (unit,)
    values = frozenset(value for of, value in stated if of in wanted)
    if values:
        return "states", values
    return ("unsure" if _UNSURE.search(plain) else "evades"), values


def _statements(plain: str) -> Iterator[str]:
    """Clauses without what they deny or ask."""
    for clause in cues.CLAUSE.split(plain):
        if clause.rstrip().endswith("?"):
            clause = "" if _ASKS.match(clause) else clause.rpartition(",")[0]
        yield _DENIED.sub("", clause)


def _values(clause: str) -> Iterator[Stated]:
    for match in _VALUE.finditer(_SCALE.sub(" ", clause)):
        found = _number(match)
        if found is not None:
            yield found
    for word in words(clause):
        if word in _names():
            yield _names()[word], word


def _number(match: re.Match[str]) -> Stated | None:
    """The unit and the number; a number in words needs a unit."""
    said = match["number"]
    units = [unit for unit in _UNITS if match[unit]]
    unit = units[0] if units else "euros" if match["money"] else "class" if match["class"] else ""
    if said in _COUNTED:
        number = float(_COUNTED.index(said) + 1)
        if not unit:
            return None
    elif re.fullmatch(r"\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+", said):
        number = float(re.sub(r"\D", "", said))
    elif len(re.findall(r"[.,]", said)) > 1:
        return None
    else:
        number = float(said.replace(",", "."))
    return ("months", number * 12) if unit == "years" else (unit, number)


@cache
def _names() -> Mapping[str, str]:
    """The word that tells a name from others, of all sides: whose it is, or what it is of."""
    kinds = {"banks": "bank", "last": "person", "countries": "country"}
    return {
        fold(name): kind
        for split in SPLITS
        for of, kind in kinds.items()
        for name in load_facts()["names"][split][of]
    }
