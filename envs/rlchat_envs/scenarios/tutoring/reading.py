"""Tasks that an agent writes out itself: "What is 1/2 + 1/3?"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlchat_envs.scenarios.tutoring.arithmetic import SIMPLIFYING, Exercise

_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": ":", "−": "-", "\u2044": "/", "$": " ", "\\": " "}
)
_FRACTION, _N = r"(\d{1,4}) ?/ ?(\d{1,4})", r"(\d{1,4})"
_TIMES, _OVER = r"(?:\*|x|times|multiplied by|of)", r"(?::|/|divided by|over)"
_SIMPLIFY = r"(?:simplif\w+|reduc\w+|shorten\w*|lowest terms|simplest form)"

_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("sum", rf"\b{_FRACTION} ?(?:\+|plus|and) ?{_FRACTION}\b"),
        ("product", rf"\b{_FRACTION} ?{_TIMES} ?{_FRACTION}\b"),
        ("quotient", rf"\b{_FRACTION} ?{_OVER} ?{_FRACTION}\b"),
        ("simplify", rf"\b{_SIMPLIFY}(?: the fraction| of)?:? {_FRACTION}\b"),
        ("simplify", rf"\b{_FRACTION} (?:in|to|into)(?: its)? {_SIMPLIFY}"),
        ("decimal", r"\b(\d{1,2}\.\d{1,2}) (?:(?:as|in|into|to)(?: an?)? )?(?:percent\w*|%)"),
        ("percent", rf"\b{_N} ?(?:%|percent) of {_N}\b"),
        ("subtract", rf"\b{_N} ?(?:-|minus|take away) ?(?:\( ?- ?{_N} ?\)|minus {_N}\b|-{_N}\b)"),
        ("multiply", rf"\( ?- ?{_N} ?\) ?(?:\*|x|times)? ?\( ?- ?{_N} ?\)"),
        ("multiply", rf"(?<![\d)])-{_N} ?(?:\*|x|times) ?\(?-{_N}\b\)?"),
        ("order", rf"\b{_N} ?(\+|plus|-|minus) ?{_N} ?(?:\*|x|times) ?{_N}\b"),
        ("equation", rf"(?<![\w.])(\d{{1,3}})? ?\*? ?[b-z] ?(?:([+-]) ?{_N})? ?= ?(-?\d{{1,4}})\b"),
    )
)


def tidy(text: str) -> str:
    """Write signs, and fractions that are set in TeX, in plain characters."""
    text = re.sub(r"\\[dt]?frac\s?\{\s?(\d+)\s?\}\s?\{\s?(\d+)\s?\}", r"\1/\2", text)
    text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", ":")
    return re.sub(r"\((\d{1,4}/\d{1,4})\)", r"\1", re.sub(r"[^\S\n]+", " ", text.translate(_SIGNS)))


def read_exercises(text: str) -> Iterator[tuple[int, int, Exercise]]:
    """Find tasks in a tidy, lower-case text.

    Returns:
        Start and end in the text, and the exercise, from left to right without overlaps.
    """
    found = []
    for name, pattern in _FORMS:
        for match in pattern.finditer(text):
            exercise = _exercise(name, match.groups())
            if exercise is not None:
                found.append((match.start(), match.end(), exercise))
    end = 0
    for start, stop, exercise in sorted(found, key=lambda f: (f[0], -f[1])):
        if start >= end:
            yield start, stop, exercise
            end = stop


def _exercise(form: str, parts: tuple[str | None, ...]) -> Exercise | None:
    """Make an exercise of what a pattern found; None if it cannot be solved."""
    if form == "equation":
        return _read_equation(*parts)
    given = [part or "" for part in parts]
    if form == "decimal":
        hundredths = round(float(given[0]) * 100)
        return Exercise("decimals as percents", (hundredths,)) if hundredths else None
    if form == "order":
        first, sign, second, third = given
        added = int(f"{_sign(sign)}{second}")
        return Exercise("order of operations", (int(first), added, int(third)))
    numbers = tuple(int(part) for part in given if part)
    if 0 in numbers:
        return None
    if form == "sum" and numbers[1] == numbers[3]:
        return Exercise("adding like fractions", (numbers[0], numbers[2], numbers[1]))
    return Exercise(_SKILLS[form], numbers)


_SKILLS = {
    "sum": "adding unlike fractions",
    "product": "multiplying fractions",
    "quotient": "dividing fractions",
    "simplify": SIMPLIFYING,
    "percent": "percent of a number",
    "subtract": "subtracting negatives",
    "multiply": "multiplying negatives",
}


def _sign(word: str) -> str:
    return "-" if word in ("-", "minus") else ""


def _read_equation(
    times: str | None, sign: str | None, plus: str | None, total: str | None
) -> Exercise | None:
    factor, addend = int(times or 1), int(f"{_sign(sign or '')}{plus or 0}")
    if not factor or (factor == 1 and not addend):  # "x = 4" is an answer
        return None
    skill = "two-step equations" if factor > 1 and addend else "one-step equations"
    return Exercise(skill, (factor, addend, int(total or 0)))
