"""A consultation as a file describes it: what can be asked, offered and said, and what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from rlchat_envs.nlu.lexicon import Lexicon

Sided = Mapping[str, tuple[str, ...]]  # wordings by side of the split
Known = frozenset[tuple[str, str]]  # facts and their values

USER_LINES = (
    "confused",
    "overwhelmed",
    "irrelevant",
    "already",
    "lookup",
    "correct",
    "too_early",
    "unsure",
    "thanks",
    "unfounded",
    "incomplete",
    "wrong",
    "walkout",
    "stalled",
    "demands",
)
AGENT_LINES = ("hello", "again", "known", "start", "end")


@dataclass(frozen=True, slots=True)
class Value:
    """One thing a fact can be, and how users say it; ``means`` tells people in short."""

    means: str
    said: Sided


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that only the user knows, or, with ``desk``, only the desk.

    A fact with a ``like`` is drawn freely: ``#`` stands for a digit, ``@`` for a capital letter.
    """

    name: str
    called: str
    ask: tuple[str, ...] = ()
    curt: tuple[str, ...] = ()
    both: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    like: str = ""
    answer: Sided = field(default_factory=dict)
    desk: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A solution that an agent can give, and how scripted agents word it."""

    name: str
    called: str
    say: tuple[str, ...]
    curt: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is neither question nor offer, but has to be said, or must not be."""

    name: str
    called: str
    say: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """If the facts are among ``when``, then ``offers`` are right (or cost ``cost``)."""

    when: Mapping[str, tuple[str, ...]]
    offers: tuple[str, ...]
    cost: str = ""

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether every condition holds."""
        return all(facts.get(name) in values for name, values in self.when.items())


@dataclass(frozen=True)
class Problem:
    """What a user comes with: the facts it takes, and what is right, first rule that fits."""

    name: str
    called: str
    needs: tuple[str, ...]
    rules: tuple[Rule, ...]
    opening: Sided
    weights: Mapping[str, Mapping[str, float]]  # of facts' values; equal where not given
    possible: Mapping[str, tuple[str, ...]]  # the values that each fact can have here
    _evident: dict[Known, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def right(self, facts: Mapping[str, str]) -> tuple[str, ...]:
        """The offers that are right, given all facts."""
        return next(rule.offers for rule in self.rules if rule.fits(facts))

    def evident(self, known: Known) -> tuple[str, ...]:
        """The offers that are right in every case in which ``known`` holds."""
        if known not in self._evident:
            self._evident[known] = self._right_everywhere(dict(known))
        return self._evident[known]

    def _right_everywhere(self, known: Mapping[str, str]) -> tuple[str, ...]:
        decisive = {name for rule in self.rules for name in rule.when}
        unknown = sorted(decisive - known.keys())
        cases = product(*(self.possible[name] for name in unknown))
        rights = [self.right({**known, **dict(zip(unknown, case, strict=True))}) for case in cases]
        return tuple(offer for offer in rights[0] if all(offer in right for right in rights))


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """What the desk shows once the user has told some facts; ``{fact}`` stands for a value."""

    after: tuple[str, ...]
    text: str
    problems: tuple[str, ...] = ()  # all if none


@dataclass(frozen=True, slots=True)
class DocumentSpec:
    """A document of the desk's, with ``{fact}`` where an episode's value belongs."""

    title: str
    text: str
    source: str


@dataclass(frozen=True)
class ConsultSpec:
    """One scenario, read from a file."""

    system: str
    facts: Mapping[str, Fact]
    offers: Mapping[str, Offer]
    remarks: Mapping[str, Remark]
    must_say: tuple[str, ...]
    must_not_say: Mapping[str, str]  # remark: name of its cost
    problems: Mapping[str, Problem]
    unsafe: tuple[Rule, ...]
    records: tuple[RecordSpec, ...]
    documents: tuple[DocumentSpec, ...]
    demands: tuple[str, ...]  # offers and remarks that adversarial users press for
    lexicon: Lexicon
    lines: Mapping[str, Sided]  # what users say, by kind
    words: Mapping[str, tuple[str, ...]]  # what scripted agents say around their acts
