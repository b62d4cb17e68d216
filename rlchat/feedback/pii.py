"""Masking of what identifies or reaches a person, before a text is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from phonenumbers import SUPPORTED_REGIONS, PhoneNumberMatcher
from stdnum import iban, luhn

from rlchat.errors import UserError

Mask = Callable[[str], str]
_Found = tuple[int, int, str]  # from, to, and what stands there instead

# No part of an address can stand before it, so that a long text is searched once.
_EMAIL = re.compile(r"(?<![\w.%+'&-])[\w.%+'&-]+@(?:[\w-]+\.)+[^\W\d_]{2,}")
_HANDLE = re.compile(r"(?<![\w@/.])@\w[\w.-]*\w")
# "is" may lead to any word ("my login is gone"): then only what looks like a name of an account is.
_NAMED = re.compile(
    r"\b(?:user ?name|log-?in|user ?id|account (?:name|number|no\.?|id)|customer (?:number|id))"
    r"(?:\s*[:=#]\s*|\s+is:?\s+(?=\S*[\d_]))[\"']?([^\s\"',;]*[^\s\"',;.!?])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_GAPS = ("", " ", "-", "\N{NO-BREAK SPACE}")  # inside a number that is written in groups
_CARD = re.compile(r"[2-6][0-9]{12,18}")  # the first digit of every issuer of payment cards
_IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}[0-9A-Za-z]{11,30}")
_SHORTEST, _LONGEST = 13, 34  # characters of a card's number, and of an IBAN


def masked(text: str, region: str = "US") -> str:
    """Put ``[e-mail]``, ``[card]``, ``[account]`` and ``[phone]`` in the place of such things.

    Payment cards have to pass the Luhn check and IBANs their own; phone numbers have to be ones
    that can be dialled. Names of people, addresses and dates of birth stay.

    Args:
        text: anything.
        region: whose phone numbers are known without their country's code; see `check_region`.
    """
    out, done = [], 0
    for start, end, instead in _apart(text, region):
        out += [text[done:start], instead]
        done = end
    return "".join([*out, text[done:]])


def check_region(region: str) -> None:
    """Refuse what is no region.

    Raises:
        UserError: so it is.
    """
    if region not in SUPPORTED_REGIONS:
        raise UserError(
            f"expected region of two capital letters, as in US, GB or DE; got {region!r}"
        )


def _apart(text: str, region: str) -> list[_Found]:
    """Spans to be masked, in order; of two that overlap, the kind that is surer."""
    kept: list[_Found] = []
    for start, end, instead in _all(text, region):
        if all(end <= first or last <= start for first, last, _ in kept):
            kept.append((start, end, instead))
    return sorted(kept)


def _all(text: str, region: str) -> Iterator[_Found]:
    for match in _EMAIL.finditer(text):
        yield *match.span(), "[e-mail]"
    yield from _in_groups(text)
    for phone in PhoneNumberMatcher(text, region):
        yield phone.start, phone.end, "[phone]"
    for match in _HANDLE.finditer(text):
        yield *match.span(), "[account]"
    for match in _NAMED.finditer(text):
        yield *match.span(1), "[account]"


def _in_groups(text: str) -> Iterator[_Found]:
    """Payment cards and IBANs: the longest run of neighbouring groups that passes the check."""
    words = [match.span() for match in _WORD.finditer(text)]
    at = 0
    while at < len(words):
        for last in reversed(_neighbours(text, words, at)):
            start, end = words[at][0], words[last][1]
            if instead := _number("".join(_WORD.findall(text[start:end]))):
                yield start, end, instead
                at = last
                break
        at += 1


def _neighbours(text: str, words: list[tuple[int, int]], at: int) -> list[int]:
    """Which words, from one that holds a digit on, could be the last group of one number."""
    if not any(c.isdigit() for c in text[slice(*words[at])][:_LONGEST]):
        return []
    ends, length = [], 0
    for i in range(at, len(words)):
        start, end = words[i]
        length += end - start
        if length > _LONGEST or (i > at and text[words[i - 1][1] : start] not in _GAPS):
            break
        if length >= _SHORTEST:
            ends.append(i)
    return ends


def _number(digits: str) -> str:
    """The mark that replaces a number; empty if it is neither a card's nor an account's."""
    if _CARD.fullmatch(digits) and luhn.is_valid(digits):
        return "[card]"
    if _IBAN.fullmatch(digits) and iban.is_valid(digits):
        return "[account]"
    return ""
