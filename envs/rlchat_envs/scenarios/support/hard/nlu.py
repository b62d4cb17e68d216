"""Whether a message tells the customer what the record says against them, and how kindly.

Patterns run over lower-case text without accents or apostrophes.
"""

from __future__ import annotations

import re
import unicodedata

from rlchat_envs.nlu.cues import any_of
from rlchat_envs.nlu.lexicon import MAX_LENGTH

_SENTENCE = re.compile(r"(?<=[.!?])\s+")  # a question tells nothing
MAX_TOLD = 3  # intents whose contradictions a message may name; a list of all of them tells nothing

_DELIVERED = r"\b(?:was|were|been|is|as|got|already|shows?|says?) (?:\w+ )?delivered\b"
_PHOTO = r"\b(?:photo(?:s|graphs?|graphed)?|pictures?|image)\b"
CONTRADICTIONS: dict[str, re.Pattern[str]] = {
    "tracking": any_of(_DELIVERED, r"\bneighbou?rs?\b|\bnext door\b", r"\bsigned\b|\bsignature\b"),
    "return": any_of(
        r"\b(?:was|were|been|already|record|you|it|item|says?|shows?) (?:\w+ )?returned\b",
        r"\bsettled\b|\bin may\b",
        r"\b(?:came|come|has it|have it|got it) back\b",
        r"^\W*returned\b|: returned\b",
    ),
    "exchange": any_of(
        (
            r"\b(?:second|other|another) (?:version|variant|model|one)\b.{0,40}"
            r"\b(?:dispatched|sent|shipped|way|out|coming)\b"
        ),
        (
            r"\b(?:already|been|was) (?:\w+ )?(?:dispatched|sent|shipped)\b|"
            r"\b(?:dispatched|sent|shipped) already\b"
        ),
    ),
    "cancel": any_of(
        _DELIVERED,
        r"\blast week\b",
        r"\b(?:already|has|have) (?:\w+ )?(?:arrived|reached you|got there)\b",
    ),
    "address": any_of(r"\bcollected\b|\bpicked (?:it )?up\b|\bfetched\b", r"\bin person\b"),
    "warranty": any_of(r"\b(?:six|6) years?\b", r"\byears (?:ago|old)\b|\bolder than\b"),
    "damaged": any_of(
        r"\b(?:intact|undamaged|unharmed|unbroken)\b",
        rf"{_PHOTO}.{{0,40}}\b(?:whole|fine|door|order|shape|condition|damage)\b",
        r"\bin (?:one piece|good (?:order|shape|condition))\b",
    ),
    "wrong_item": any_of(
        rf"{_PHOTO}.{{0,40}}\b(?:match\w*|shows?|right|correct|order)\b",
        r"\bmatch(?:es|ed)\b",
        r"\bpacked (?:correctly|right|properly)\b",
    ),
}
KIND = any_of(
    r"\b(?:sorry|apolog\w+|afraid|unfortunately|regret\w*|sadly)\b",
    r"\b(?:understand\w*|appreciate|believe you|imagine|realise|realize)\b",
    r"\bi (?:know|see|can see) (?:that|how|why|what|this|it)\b",
    r"\b(?:surpris\w+|unexpected|odd|strange|puzzl\w+|misunderstanding|mix ?-?up)\b",
    r"\b(?:perhaps|maybe|possibly|might|may (?:have|be|well)|it (?:seems|looks|appears))\b",
    r"\b(?:thank you|thanks) for (?:telling|explaining|letting|your honesty|being)\b",
)


def contradicts(text: str, intent: str) -> bool:
    """Whether a message names what the record holds against a customer with this intent."""
    if len(text) > MAX_LENGTH:
        return False
    plain = " ".join(s for s in _SENTENCE.split(_plain(text)) if not s.rstrip().endswith("?"))
    named = [name for name, pattern in CONTRADICTIONS.items() if pattern.search(plain)]
    return intent in named and len(named) <= MAX_TOLD


def is_kind(text: str) -> bool:
    """Whether a message softens what it says."""
    return bool(KIND.search(_plain(text[:MAX_LENGTH])))


def _plain(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    return "".join(c for c in apart if not unicodedata.combining(c)).lower().replace("'", " ")
