"""What a user hears in an agent's message: facts asked for, solutions offered, things remarked.

Works on words, not on magic phrases: spelling is mended against the words that matter, a
message is cut into clauses, and a clause asks or offers if it has both a cue ("could you",
"we will") and a subject ("order number", "money back"). A refusal cancels the offers of its own
clause only. The subjects are a scenario's `Lexicon`; the cues are in `cues`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rlchat_envs.nlu import cues

BARE_WORDS = 6
MAX_LENGTH = 1_500  # characters that a user is willing to read

Subjects = Mapping[str, re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class Heard:
    """The acts in one message; ``questions`` counts facts asked for or question marks."""

    asks: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    questions: int = 0
    too_long: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexicon:
    """The words of one scenario.

    ``defiant`` names offers that are themselves phrased as refusals, and so are looked for before
    refusals are. ``narrower`` lists pairs of facts: where both are found, the first is meant.
    ``remarked`` names things said that are neither questions nor offers. ``mended`` are words
    worth mending when misspelt, ``right`` their neighbours that are right as they stand.
    """

    asked: Subjects
    offered: Subjects
    remarked: Subjects = field(default_factory=dict)
    defiant: Subjects = field(default_factory=dict)
    narrower: tuple[tuple[str, str], ...] = ()
    mended: frozenset[str] = frozenset()
    right: frozenset[str] = frozenset()
    refusal: re.Pattern[str] = cues.REFUSAL
    idle: re.Pattern[str] = cues.IDLE
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def understand(self, text: str) -> Heard:
        """Read a message as a user would."""
        if len(text) > MAX_LENGTH:
            return Heard(too_long=True)
        asks: dict[str, None] = {}
        offers: dict[str, None] = {}
        remarks: dict[str, None] = {}
        for clause in cues.CLAUSE.split(self.normalised(text)):
            asked = self._asked(clause)
            asks |= dict.fromkeys(asked)
            offers |= dict.fromkeys(self._offered(clause, is_question=bool(asked)))
            remarks |= dict.fromkeys(_found(self.remarked, clause))
        questions = max(len(asks), len(re.findall(r"\?+", text)))
        return Heard(tuple(asks), tuple(offers), questions, remarks=tuple(remarks))

    def normalised(self, text: str) -> str:
        """Lower case without accents, apostrophes, slips and polite asides."""
        plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
        plain = "".join(c for c in plain if not unicodedata.combining(c)).lower().replace("'", " ")
        return cues.ASIDE.sub(" ", re.sub(r"[a-z]{5,}", lambda m: self._mend(m.group()), plain))

    def _asked(self, clause: str) -> list[str]:
        if not cues.ASK_CUE.search(clause):
            return []
        found = _found(self.asked, clause)
        if not cues.QUESTION.search(clause):  # "Please water it less" asks nothing about water
            found = [name for name in found if not self._part_of_offer(name, clause)]
        for specific, general in self.narrower:
            if specific in found and general in found:
                found.remove(general)
        return found

    def _part_of_offer(self, fact: str, clause: str) -> bool:
        """Whether a fact is only named by words that name an offer."""
        offers = [m.span() for p in self.offered.values() for m in p.finditer(clause)]
        return all(
            any(start <= m.start() and m.end() <= end for start, end in offers)
            for m in self.asked[fact].finditer(clause)
        )

    def _offered(self, clause: str, is_question: bool) -> list[str]:
        defiant = [] if is_question else _found(self.defiant, clause)
        if defiant:
            return defiant
        bare = len(clause.split()) <= BARE_WORDS  # "Discount voucher." needs no verb to be an offer
        if is_question or not (bare or cues.OFFER_CUE.search(clause)):
            return []
        if self.idle.search(clause) or self.refusal.search(clause):
            return []
        return _found(self.offered, clause)

    def _mend(self, word: str) -> str:
        """Give the word of the lexicon that is one slip away, or the word itself."""
        if word in self.mended or word in self.right:
            return word
        if word not in self._known:
            if len(self._known) >= 50_000:
                self._known.clear()
            near = [known for known in self._by_initial.get(word[0], ()) if _one_slip(word, known)]
            self._known[word] = near[0] if len(near) == 1 else word
        return self._known[word]

    @cached_property
    def _by_initial(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for word in sorted(self.mended):
            found.setdefault(word[0], []).append(word)
        return found


def _found(subjects: Subjects, clause: str) -> list[str]:
    return [name for name, pattern in subjects.items() if pattern.search(clause)]


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
