"""What a customer hears in an agent's message: the facts asked for and the solutions offered.

Works on words, not on magic phrases: spelling is mended against the words that matter, a
message is cut into clauses, and a clause asks or offers if it has both a cue ("could you",
"we will") and a subject ("order number", "money back"). A refusal cancels the offers of its own
clause only. The words themselves are in `lexicon`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from rlchat_envs.support import lexicon

BARE_WORDS = 6
MAX_LENGTH = 1_500  # characters that a customer is willing to read


@dataclass(frozen=True, slots=True)
class Heard:
    """The acts in one message; ``questions`` counts facts asked for or question marks."""

    asks: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    questions: int = 0
    too_long: bool = False


def understand(text: str) -> Heard:
    """Read a message as a customer would.

    >>> understand("Could you tell me your order number, please?").asks
    ('order_number',)
    >>> understand("I can't refund this any more, but I can give you store credit.").offers
    ('store_credit',)
    """
    if len(text) > MAX_LENGTH:
        return Heard(too_long=True)
    asks: dict[str, None] = {}
    offers: dict[str, None] = {}
    for clause in lexicon.CLAUSE.split(_normalise(text)):
        asked = _asked(clause)
        asks |= dict.fromkeys(asked)
        offers |= dict.fromkeys(_offered(clause, is_question=bool(asked)))
    return Heard(tuple(asks), tuple(offers), max(len(asks), len(re.findall(r"\?+", text))))


def _normalise(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).lower().replace("'", " ")
    return lexicon.ASIDE.sub(" ", re.sub(r"[a-z]{5,}", lambda m: _mend(m.group()), plain))


def _asked(clause: str) -> list[str]:
    if not lexicon.ASK_CUE.search(clause):
        return []
    found = [slot for slot, pattern in lexicon.ASKED.items() if pattern.search(clause)]
    # "What is wrong with it" and "which model arrived": the more specific subject wins.
    for specific, general in (
        ("received", "variant"),
        ("received", "fault"),
        ("variant", "fault"),
        ("fault", "reason"),
        ("email", "new_address"),
    ):
        if specific in found and general in found:
            found.remove(general)
    return found


def _offered(clause: str, is_question: bool) -> list[str]:
    if not is_question and lexicon.SENT_BACK.search(clause):
        return ["send_back"]
    bare = len(clause.split()) <= BARE_WORDS  # "Discount voucher." needs no verb to be an offer
    if is_question or not (bare or lexicon.OFFER_CUE.search(clause)):
        return []
    if lexicon.IDLE.search(clause) or lexicon.REFUSAL.search(clause):
        return []
    return [name for name, pattern in lexicon.OFFERED.items() if pattern.search(clause)]


@lru_cache(maxsize=50_000)
def _mend(word: str) -> str:
    """Give the word of the lexicon that is one slip away, or the word itself."""
    if word in lexicon.MENDED or word in lexicon.RIGHT:
        return word
    near = [known for known in lexicon.MENDED if _one_slip(word, known)]
    return near[0] if len(near) == 1 else word


def _one_slip(a: str, b: str) -> bool:
    """One letter too many, too few or wrong, or two neighbours exchanged; the first is right."""
    if abs(len(a) - len(b)) > 1 or a[0] != b[0]:
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    rest_a, rest_b = a[start:], b[start:]
    return (
        rest_a[1:] == rest_b[1:]
        or rest_a[1:] == rest_b
        or rest_a == rest_b[1:]
        or (rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:])
    )
