"""What is asked about a thing, and how it is read out of free text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from rlchat_envs.nlu.cues import any_of
from rlchat_envs.nlu.lexicon import Lexicon
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.player import Heard, Told
from rlchat_envs.scenarios.games.things import Things, load_things

MENDED = 7  # letters of a word that is worth mending; short ones have too many neighbours
MAX_LENGTH = 300  # characters; nobody needs more to ask a yes-or-no question


@dataclass(frozen=True, slots=True)
class ThingQuestion:
    """A question for an attribute, or a guess of a thing."""

    name: str
    things: frozenset[str]  # that it is true of
    is_guess: bool = False

    def answer(self, secret: str) -> str:
        """See `player.Question`."""
        if secret in self.things:
            return "right" if self.is_guess else "yes"
        return "no"


# Nothing goes on after a noun that is meant as a whole but a clause or a courtesy.
_END = (
    r"(?=\W*$|\s*[?.,!;)]| (?:that|which|who|with|or|and|in|on|to|from|for|then|please|at|you|by|"
    r"maybe|perhaps|right|though|also|of (?:some|any) (?:kind|sort|type))\b)"
)
_NOUN = rf"(?:^|\b(?:an?|the|any|some|it|is|s|t|not|of|or|be|called) )(?:{{noun}}){_END}"
_GUESS = (
    r"(?:\b(?:is|s|be|as|about|guess(?:ing)?|say|think|thinking of|try|was|mean|answer|"
    r"called|or|and|then|maybe|perhaps|so)\b|^|[,:])[ ,:]*(?:it )?(?:is |s |be )?"
    r"(?:(?:just|simply|maybe|perhaps|possibly|really|actually|probably) )?"
    r"(?:an? |the |some |your |my |any )?(?:pair of |piece of |kind of |type of )?"
    r"(?P<name>{names})(?=\W*$|\s*[?.,!;)]| (?:that|then|please|or|and|you|maybe|perhaps|right|"
    r"by any chance|at all|though)\b)"
)
_ASKS = any_of(
    r"\?",
    (
        r"^\W*(?:(?:so|and|then|ok|okay|well|now|please|maybe|perhaps|hm+)\W+)*"
        r"(?:is|s|does|do|are|can|could|would|will|might|was|has|have|what about|how about)\b"
    ),
    r"\b(?:my guess|i guess|i say|i d say|i think|tell me|let me guess|i wonder|i bet|"
    r"i d like to know|please say)\b",
)
_GIVES_UP = re.compile(r"\bi (?:\w+ )?give (?:it )?up\b|^\W*(?:we )?give up\W*$|\bi surrender\b")
_CLAUSE = any_of(
    r"(?<=[.!?;:])\s+",
    r"\n+",
    r"(?:,|\bbut\b)\s*(?=(?:so|is it|could it|can it|would it|does it|then|how|what|my|maybe)\b)",
)
# "Does this animal have legs?" asks nothing about animals.
_POINTS = re.compile(
    r"\b(?:this|that|the|your) (?:(?:secret|mystery) )?(?:thing|object|item|animal|creature|person|"
    r"place|word|answer|plant|food|one)\b(?= (?!that\b|which\b)\w)|\b(?:he|she|they)\b"
)
_SHORT = 4  # words; so few need no question mark


@dataclass(frozen=True)
class Reader:
    """Understands questions about things."""

    things: Things

    def understand(self, text: str) -> Heard[str]:
        """Read an agent's message."""
        if len(text) > MAX_LENGTH:
            return Heard(too_long=True)
        plain = self.normalised(text)
        clauses = [clause for clause in _CLAUSE.split(plain) if clause.strip()]
        asking = [clause for clause in clauses if _ASKS.search(clause)]
        short = [clause for clause in clauses if len(clause.split()) <= _SHORT]
        found = [q for clause in asking or short for q in self.questions(clause)]
        return Heard(
            tuple(dict.fromkeys(found)),
            asks=bool(asking),
            gives_up=bool(_GIVES_UP.search(plain)) and not found,
        )

    def questions(self, clause: str) -> list[ThingQuestion]:
        """What a clause names: of overlapping matches the longest, and no wider attribute."""
        found: list[tuple[int, int, ThingQuestion]] = []
        matches = sorted(self._matches(clause), key=lambda m: (m[0] - m[1], m[2].is_guess))
        for start, end, question in matches:
            if all(end <= s or start >= e for s, e, _ in found):
                found.append((start, end, question))
        # "A red fruit" asks for two things.
        for start, end, question in self._loose(clause) if found else ():
            if all(end <= s or start >= e for s, e, _ in found):
                found.append((start, end, question))
        questions = list(dict.fromkeys(q for _, _, q in sorted(found, key=lambda m: m[:2])))
        # "An animal that lays eggs" asks for eggs, as all that lay eggs are animals.
        return [q for q in questions if not any(p.things < q.things for p in questions)]

    def read_reply(self, question: ThingQuestion | None, text: str) -> list[Told[str]]:
        """Read what a user's reply tells, corrections of earlier replies included.

        Args:
            question: what was asked; None if that is unknown.
            text: the reply.
        """
        found: dict[str, Told[str]] = {}
        for sentence in re.split(r"(?<=[.!?])\s+", self.normalised(text)):
            stated = dict(self._stated(sentence))
            for attribute, negated in stated.items():
                found[attribute.name] = Told(attribute, "no" if negated else "yes")
            said = _YES_OR_NO.match(sentence)
            if question is not None and said and not stated:
                found.setdefault(question.name, Told(question, "yes" if said[1] else "no"))
        return list(found.values())

    def normalised(self, text: str) -> str:
        """Lower case, slips mended, hyphens as spaces, and "it" for what points at the secret."""
        plain = self._lexicon.normalised(text).replace("-", " ")
        return _POINTS.sub("it", " ".join(plain.split()))

    def _stated(self, sentence: str) -> Iterator[tuple[ThingQuestion, bool]]:
        """Attributes that a sentence says are true of it, or are not."""
        for found in _STATEMENT.finditer(sentence):
            for question in self.questions(found[0]):
                if not question.is_guess:
                    yield question, bool(found[1])

    def _matches(self, clause: str) -> Iterator[tuple[int, int, ThingQuestion]]:
        for pattern, question in self._patterns:
            yield from ((*m.span(), question) for m in pattern.finditer(clause))
        for m in self._names.finditer(clause):
            name = self.things.by_any_name[_singular(m["name"], self.things.by_any_name)]
            yield *m.span("name"), self.guess(name)

    def _loose(self, clause: str) -> Iterator[tuple[int, int, ThingQuestion]]:
        """Kinds of things, whatever stands beside them."""
        for pattern, question in self._kinds:
            yield from ((*m.span(), question) for m in pattern.finditer(clause))

    def guess(self, name: str) -> ThingQuestion:
        """The guess of a thing."""
        return ThingQuestion(name, frozenset([name]), is_guess=True)

    @cached_property
    def attributes(self) -> dict[str, ThingQuestion]:
        """The questions for attributes, by name."""
        return {a.name: ThingQuestion(a.name, a.things) for a in self.things.attributes.values()}

    @cached_property
    def _kinds(self) -> list[tuple[re.Pattern[str], ThingQuestion]]:
        heard = load_data("thing_heard")["heard"]
        nouns = {name: [p[2:] for p in heard[name] if p.startswith("A ")] for name in heard}
        return [
            (re.compile(rf"\b(?:{'|'.join(found)})\b"), self.attributes[name])
            for name, found in nouns.items()
            if found and name != "person"  # people are named all over the place
        ]

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], ThingQuestion]]:
        data = load_data("thing_heard")
        found = []
        for name, question in self.attributes.items():
            ask = re.escape(self.normalised(self.things.attributes[name].ask).rstrip("?"))
            patterns = [_expanded(p, data["words"]) for p in data["heard"][name]]
            nouns = [p[2:] for p in patterns if p.startswith("A ")]
            other = [p for p in patterns if not p.startswith("A ")]
            parts = [rf"\b(?:{'|'.join([ask + _END, *other])})\b"]
            if nouns:
                parts.append(_NOUN.format(noun="|".join(nouns)))
            found.append((re.compile("|".join(parts)), question))
        return found

    @cached_property
    def _names(self) -> re.Pattern[str]:
        names = sorted(self.things.by_any_name, key=len, reverse=True)
        return re.compile(_GUESS.format(names="|".join(rf"{re.escape(n)}(?:e?s)?" for n in names)))

    @cached_property
    def _lexicon(self) -> Lexicon:
        data = load_data("thing_heard")
        texts = [*self.things.by_any_name, *(a.ask for a in self.things.attributes.values())]
        texts += [p for patterns in data["heard"].values() for p in patterns]
        known = frozenset(w for text in texts for w in re.findall("[a-z]+", text.lower()))
        long = frozenset(word for word in known if len(word) >= MENDED)
        return Lexicon({}, {}, mended=long, right=known.union(data["right"].split()))


@lru_cache(maxsize=10_000)
def understand(text: str) -> Heard[str]:
    """Read an agent's message about our own graph; see `Reader.understand`."""
    return reader().understand(text)


@lru_cache(maxsize=10_000)
def read_reply(question: ThingQuestion | None, text: str) -> tuple[Told[str], ...]:
    """Read a user's reply about our own graph; see `Reader.read_reply`."""
    return tuple(reader().read_reply(question, text))


@cache
def reader() -> Reader:
    """The reader for our own graph."""
    return Reader(load_things())


_STATEMENT = re.compile(
    r"\bit (?:is|does|can|would|could)(n t| t| not)?\b[^.!?]*?(?=,? and (?:no|yes)\b|[.!?]|$)"
)
_YES_OR_NO = re.compile(
    r"\W*(?:(?:well|oh|hm+|um|er)\W+)*(?:that s |it s )?(?:"
    r"(yes|yep|yeah|yup|correct|right|indeed|true|aye|sure|certainly|of course|quite|"
    r"it (?:is|does|can))|no|nope|nah|nay|wrong|alas|false|not|negative|never|by no means|"
    r"it (?:isn|doesn|can t))\b"
)


def _expanded(pattern: str, words: dict[str, str]) -> str:
    return re.sub(r"\b[A-Z]{2,}\b", lambda m: words[m.group()], pattern)


def _singular(name: str, known: dict[str, str]) -> str:
    return next(n for n in (name, name.removesuffix("s"), name.removesuffix("es")) if n in known)
