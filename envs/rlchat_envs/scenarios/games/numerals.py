"""Numbers in English text, in digits and in words."""

from __future__ import annotations

import re

from rlchat_envs.scenarios.games.data import load_data

_UNITS: list[str] = load_data("number_heard")["units"]
_TENS: dict[str, int] = {
    **{word: 10 * n for n, word in enumerate(load_data("number_heard")["tens"], 2)},
    **load_data("number_heard")["misspelt"],
}
_VALUES = {word: n for n, word in enumerate(_UNITS)} | _TENS | {"a": 1, "an": 1}

_DIGIT = "|".join(_UNITS[1:10])
_TEN = f"(?:{'|'.join(_TENS)})(?:[ -]?(?:{_DIGIT})\\b)?"
_BELOW_HUNDRED = f"(?:{_TEN}|{'|'.join(sorted(_UNITS, key=len, reverse=True))})"
_HUNDREDS = f"(?:(?:an?|{_DIGIT}) )?hundred(?:(?: and)? {_BELOW_HUNDRED})?"
_WORDS = re.compile(rf"\b(?:{_HUNDREDS}|{_BELOW_HUNDRED})\b")
# "This one", "one of them" and "one more" are no numbers.
_PRONOUN = re.compile(
    r"\b(?:this|that|the|which|right|correct|next|another|any|no|some|every|each|last|only|good)"
    r" one\b|\bone (?:of|more|question|guess|moment|second|thing|number|that|which|who)\b"
)
_PART = re.compile("|".join(sorted(_VALUES, key=len, reverse=True)))
_GROUPED = re.compile(r"\b\d{1,3}(?:,\d{3})+\b")
_FRACTION = re.compile(r"\d+[.,/]\d+")


def in_digits(text: str) -> str:
    """Write the whole numbers of a lower-case text in digits, and fractions as ``fraction``.

    >>> in_digits("is it forty-two, or a hundred and one?")
    'is it 42, or 101?'
    >>> in_digits("is it 1,000? or 3.5?")
    'is it 1000? or fraction?'
    """
    text = _PRONOUN.sub(lambda m: m.group().replace("one", "ones"), text)
    text = _WORDS.sub(lambda m: str(_value(m.group())), text)
    text = _GROUPED.sub(lambda m: m.group().replace(",", ""), text)
    return _FRACTION.sub("fraction", text)


def _value(words: str) -> int:
    """The value of a number below 1,000 in words."""
    above, hundred, rest = words.rpartition("hundred")
    if not hundred:
        return sum(_VALUES[part] for part in _PART.findall(words))
    rest = rest.removeprefix(" and")
    return 100 * (_VALUES[above.strip()] if above.strip() else 1) + (_value(rest) if rest else 0)
