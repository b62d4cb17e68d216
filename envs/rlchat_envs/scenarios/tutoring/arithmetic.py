"""Exercises: how each skill's are written, read, solved, and got wrong in a systematic way."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from math import gcd, lcm

Numbers = tuple[int, ...]
Solver = Callable[..., str]

SIMPLIFYING = "simplifying fractions"  # the one skill whose answer must have a certain form


@dataclass(frozen=True)
class Kind:
    """One skill's exercises; ``faults`` gives the wrong answer of each misconception."""

    write: Solver
    right: Solver
    faults: Mapping[str, Solver]
    candidates: Callable[[], Iterator[Numbers]]


@dataclass(frozen=True, slots=True)
class Exercise:
    """A task with its checked answer; ``numbers`` is what its kind writes it from."""

    skill: str
    numbers: Numbers

    @property
    def text(self) -> str:
        """As a book prints it: ``1/2 + 1/3``."""
        return KINDS[self.skill].write(*self.numbers)

    @property
    def right(self) -> str:
        """The right answer: ``5/6``."""
        return KINDS[self.skill].right(*self.numbers)

    @property
    def faults(self) -> dict[str, str]:
        """The answer that each misconception leads to: ``{"adds tops and bottoms": "2/5", …}``."""
        return {name: solve(*self.numbers) for name, solve in KINDS[self.skill].faults.items()}

    def accepts(self, answer: str) -> bool:
        """Whether ``answer``, a number as `find_numbers` gives it, is right."""
        if self.skill == SIMPLIFYING:
            return answer == self.right
        return value(answer) == value(self.right)

    @property
    def telling(self) -> bool:
        """Whether the right answer and those of all misconceptions differ from one another."""
        answers = [self.right, *self.faults.values()]
        known = answers if self.skill == SIMPLIFYING else [value(answer) for answer in answers]
        return None not in known and len(set(known)) == len(known)


def value(answer: str) -> Fraction | None:
    """The number that an answer stands for, a percent sign aside; None for a division by 0."""
    try:
        return Fraction(answer.removesuffix("%"))
    except ZeroDivisionError:
        return None


_NUMBER = re.compile(r"(?<![\d./])-?\s?\d{1,6}(?:\s?/\s?\d{1,6}|\.\d{1,6})?%?(?![\d/])")


def find_numbers(text: str) -> list[str]:
    """The numbers in a text, without spaces: ``["2/5", "-3", "0.4%"]``."""
    return [re.sub(r"\s", "", m.group()) for m in _NUMBER.finditer(text)]


def careless(exercise: Exercise, by: int = 1) -> str:
    """A slip of the pen: the right answer, its first number too large by ``by`` or a little more.

    It never is an answer that a misconception leads to.
    """
    answer = re.sub(r"-?\d+", lambda m: str(int(m.group()) + by), exercise.right, count=1)
    known = {value(fault) for fault in exercise.faults.values()}
    return careless(exercise, by + 1) if value(answer) in known else answer


def _show(number: Fraction) -> str:
    """A number as people write it: whole, as a short decimal, or as a fraction."""
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):g}" if (number * 1000).denominator == 1 else str(number)


def _divided(top: int, bottom: int) -> str:
    """A quotient; ``1/0`` where there is none."""
    return _show(Fraction(top, bottom)) if bottom else "1/0"


def _lowest(top: int, bottom: int) -> str:
    return str(Fraction(top, bottom))


def _equation(times: int, plus: int, total: int) -> str:
    left = "x" if times == 1 else f"{times}x"
    if plus:
        left += f" {'+' if plus > 0 else '-'} {abs(plus)}"
    return f"{left} = {total}"


def _fractions() -> Iterator[Numbers]:
    """Pairs of proper fractions in lowest terms with different, small bottoms."""
    for b, d in product(range(2, 10), repeat=2):
        for a, c in product(range(1, b), range(1, d)):
            if b != d and gcd(a, b) == gcd(c, d) == 1:
                yield a, b, c, d


KINDS: dict[str, Kind] = {
    "adding like fractions": Kind(
        lambda a, c, b: f"{a}/{b} + {c}/{b}",
        lambda a, c, b: _lowest(a + c, b),
        {"adds the bottoms": lambda a, c, b: f"{a + c}/{2 * b}"},
        lambda: ((a, c, b) for b in range(5, 16) for a in range(1, b) for c in range(1, b - a)),
    ),
    "adding unlike fractions": Kind(
        lambda a, b, c, d: f"{a}/{b} + {c}/{d}",
        lambda a, b, c, d: _lowest(a * d + c * b, b * d),
        {
            "adds tops and bottoms": lambda a, b, c, d: f"{a + c}/{b + d}",
            "keeps the tops": lambda a, b, c, d: f"{a + c}/{lcm(b, d)}",
        },
        _fractions,
    ),
    "multiplying fractions": Kind(
        lambda a, b, c, d: f"{a}/{b} × {c}/{d}",
        lambda a, b, c, d: _lowest(a * c, b * d),
        {
            "multiplies crosswise": lambda a, b, c, d: f"{a * d}/{b * c}",
            "adds below": lambda a, b, c, d: f"{a * c}/{b + d}",
        },
        _fractions,
    ),
    "dividing fractions": Kind(
        lambda a, b, c, d: f"{a}/{b} ÷ {c}/{d}",
        lambda a, b, c, d: _lowest(a * d, b * c),
        {
            "does not flip": lambda a, b, c, d: f"{a * c}/{b * d}",
            "flips the first": lambda a, b, c, d: f"{b * c}/{a * d}",
        },
        _fractions,
    ),
    SIMPLIFYING: Kind(
        lambda a, b: f"simplify {a}/{b}",
        lambda a, b: _lowest(a, b),
        {
            "subtracts": lambda a, b: f"{a - gcd(a, b)}/{b - gcd(a, b)}",
            "divides only the top": lambda a, b: f"{a // gcd(a, b)}/{b}",
        },
        lambda: (
            (k * p, k * q)
            for k in range(2, 10)
            for q in range(3, 12)
            for p in range(2, q)
            if gcd(p, q) == 1
        ),
    ),
    "decimals as percents": Kind(
        lambda h: f"{_divided(h, 100)} as a percent",
        lambda h: f"{h}%",
        {
            "only adds the sign": lambda h: f"{_divided(h, 100)}%",
            "moves one place": lambda h: f"{_divided(h, 10)}%",
        },
        lambda: ((h,) for h in range(2, 200) if h % 100),
    ),
    "percent of a number": Kind(
        lambda p, n: f"{p}% of {n}",
        lambda p, n: _divided(p * n, 100),
        {
            "divides by the percentage": lambda p, n: _divided(n, p),
            "takes the percentage away": lambda p, n: str(n - p),
        },
        lambda: (
            (p, n)
            for p in (2, 4, 5, 20, 25, 40, 50)
            for n in range(20, 610, 10)
            if n % p == 0 and p * n % 100 == 0
        ),
    ),
    "subtracting negatives": Kind(
        lambda a, b: f"{a} - (-{b})",
        lambda a, b: str(a + b),
        {
            "drops a minus": lambda a, b: str(a - b),
            "makes it negative": lambda a, b: str(-a - b),
        },
        lambda: ((a, b) for a in range(2, 20) for b in range(2, 20) if a != b),
    ),
    "multiplying negatives": Kind(
        lambda a, b: f"(-{a}) × (-{b})",
        lambda a, b: str(a * b),
        {"keeps the minus": lambda a, b: str(-a * b)},
        lambda: ((a, b) for a in range(2, 13) for b in range(2, 13)),
    ),
    "order of operations": Kind(
        lambda a, b, c: f"{a} {'-' if b < 0 else '+'} {abs(b)} × {c}",
        lambda a, b, c: str(a + b * c),
        {"works left to right": lambda a, b, c: str((a + b) * c)},
        lambda: product(range(2, 12), range(2, 10), range(2, 10)),
    ),
    "one-step equations": Kind(
        _equation,
        lambda times, plus, total: _divided(total - plus, times),
        {
            "repeats the step": lambda times, plus, total: (
                str(total + plus) if plus else str(total * times)
            )
        },
        lambda: ((1, plus, x + plus) for plus in range(-12, 13) if plus for x in range(3, 20)),
    ),
    "two-step equations": Kind(
        _equation,
        lambda times, plus, total: _divided(total - plus, times),
        {
            "does not divide": lambda times, plus, total: str(total - plus),
            "keeps the sign": lambda times, plus, total: _divided(total + plus, times),
        },
        lambda: (
            (times, plus, times * x + plus)
            for times in range(2, 7)
            for plus in range(2, 13)
            for x in range(2, 10)
            if 2 * plus % times == 0
        ),
    ),
}


@cache
def pool(skill: str) -> tuple[Exercise, ...]:
    """Every telling exercise with small numbers, in an order that looks random and is fixed."""
    all_of_them = (Exercise(skill, numbers) for numbers in KINDS[skill].candidates())
    found = {e.text: e for e in all_of_them if e.telling}
    return tuple(sorted(found.values(), key=lambda e: (zlib.crc32(e.text.encode()), e.text)))
