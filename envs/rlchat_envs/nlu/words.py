"""Words as search and linking compare them: without case, accents and common endings."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from importlib import resources

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # written without spaces: every letter is a word
_WORD = re.compile(rf"\d+(?:[.,]\d+)+|[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")
_ENDINGS = (
    *("ments", "ment", "ings", "ing", "ers", "er", "edly", "ied", "ies", "ed", "es", "ly"),
    *("s", "e", "y"),
)
_KEPT = 3  # letters that a stem has at least


def fold(text: str) -> str:
    """Lower case, no accents, single spaces.

    >>> fold("  Épargne  LOGEMENT ")
    'epargne logement'
    """
    plain = text.casefold()
    if not plain.isascii():
        apart = unicodedata.normalize("NFKD", plain)
        plain = "".join(c for c in apart if not unicodedata.combining(c))
    return " ".join(plain.split())


def words(text: str) -> list[str]:
    """The words and numbers of a text, folded.

    >>> words("The fund's yearly cost: 0.45%")
    ['the', 'fund', 's', 'yearly', 'cost', '0.45']
    """
    return _WORD.findall(fold(text))


def stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order.

    >>> stems("What does it cost a year?"), stems("yearly costs")
    (['cost', 'year'], ['year', 'cost'])
    """
    return [stem(word) for word in words(text) if word not in stop_words()]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Cut common English endings while three letters stay; a doubled last letter is written once.

    Crude on purpose: a stem need not be a word, it must only be the same for related words.

    >>> [stem(word) for word in ("price", "pricing", "pays", "payment", "planned", "risky")]
    ['pric', 'pric', 'pay', 'pay', 'plan', 'risk']
    """
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= _KEPT), None)
    if ending is not None and not (ending == "s" and word.endswith("ss")):
        return stem(word[: -len(ending)])
    doubled = len(word) > _KEPT and word[-1] == word[-2] and word.isalpha()
    return word[:-1] if doubled else word


def singular(word: str) -> str:
    """Cut a plural's ending.

    >>> [singular(word) for word in ("funds", "policies", "taxes", "gas", "illness")]
    ['fund', 'policy', 'tax', 'gas', 'illness']
    """
    if len(word) <= 3 or word.endswith("ss"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word.removesuffix("s")


@cache
def stop_words() -> frozenset[str]:
    """English words that say nothing about a subject: those of bm25s, and those of small talk."""
    from bm25s.stopwords import STOPWORDS_EN_PLUS  # type: ignore[import-untyped]

    file = resources.files(__package__).joinpath("stop_words.toml")
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    return frozenset(STOPWORDS_EN_PLUS).union(*(line.split() for line in data["words"]))
