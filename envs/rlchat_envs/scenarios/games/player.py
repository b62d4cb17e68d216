"""The user of a guessing game, who thinks of something and answers questions about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from rlchat_envs.users.personas import Manner, Persona, small_talk

S = TypeVar("S")  # what can be thought of: a number, the name of a thing
S_contra = TypeVar("S_contra", contravariant=True)

EARLY = 4  # a bad memory shows within so many questions, and once a game
_OPPOSITE = {"yes": "no", "no": "yes", "higher": "lower", "lower": "higher"}


class Question(Protocol[S_contra]):
    """One question, or one guess."""

    def answer(self, secret: S_contra) -> str:
        """The true answer: yes, no, higher, lower, neither; ``right`` to a guess that hits."""
        ...


@dataclass(frozen=True, slots=True)
class Heard(Generic[S]):
    """What is in a message; ``asks`` tells that something is asked, be it understood or not."""

    questions: tuple[Question[S], ...] = ()
    asks: bool = False
    gives_up: bool = False
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Told(Generic[S]):
    """A question and the answer it got."""

    question: Question[S]
    answer: str

    def fits(self, secret: S) -> bool:
        """Whether ``secret`` would have got this answer."""
        return self.question.answer(secret) == self.answer


class Rules(Protocol[S]):
    """What tells one guessing game from another."""

    @property
    def secrets(self) -> Sequence[S]:
        """Everything that can be thought of."""
        ...

    @property
    def limit(self) -> int:
        """How many messages the agent has."""
        ...

    @property
    def system(self) -> str:
        """The agent's instructions."""
        ...

    def lines(self, split: str) -> Mapping[str, Sequence[str]]:
        """How the users of a side say things, by kind."""
        ...

    def called(self, secret: S) -> str:
        """What a secret is called."""
        ...

    def card(self, secret: S) -> str:
        """What a person is told who takes the user's place."""
        ...

    def show(self, secret: S, told: Sequence[Told[S]], possible: Sequence[S]) -> Mapping[str, Any]:
        """What the privileged information says of the secret and of what has been told."""
        ...

    def understand(self, text: str) -> Heard[S]:
        """Read an agent's message."""
        ...

    def read(self, question: Question[S] | None, text: str) -> Sequence[Told[S]]:
        """Read a reply; ``question`` is what was asked, if that is known."""
        ...

    def state(
        self, told: Told[S], before: Sequence[S], after: Sequence[S], pick: Callable[[str], str]
    ) -> str:
        """Put an answer into words.

        Args:
            told: the answer.
            before: what was possible before it.
            after: what is possible now.
            pick: chooses a line of a kind.
        """
        ...


@dataclass
class Player(Generic[S]):
    """A user who thinks of ``secret``.

    Messages without a question, and questions whose answer is known, cost patience. A forgetful
    player has to be asked again once a game with the persona's probability ``forgets``, and gives
    one wrong answer with probability ``contradicts``, which it puts right with the next message.
    """

    rules: Rules[S]
    secret: S
    persona: Persona
    split: str
    rng: np.random.Generator
    told: list[Told[S]] = field(default_factory=list)  # as they were said
    possible: Sequence[S] = ()  # what fits all that was told
    certain: Sequence[S] = ()  # what fits all that was told rightly
    mixed_up: Told[S] | None = None  # the truth of the last answer, if that was wrong
    questions: int = 0
    left: int = 0  # messages
    patience: int = 0
    verdict: str = ""  # guessed, out of questions, gave up, walked out; empty while it goes on

    def __post_init__(self) -> None:
        """Know the limits, and draw when memory will fail."""
        self.possible = self.certain = self.rules.secrets
        self.left, self.patience = self.rules.limit, self.persona.patience
        talk = small_talk(self.split)
        tempting = [*talk["temptations"], *self._lines["tempting"]]
        self.manner = Manner(self.persona, self.rng, {**talk, "temptations": tempting})
        self._forgets_at = self._early(self.persona.forgets)
        self._mixes_up_at = self._early(self.persona.contradicts)

    def open(self) -> str:
        """Invite the agent to guess."""
        return self.manner.put(self._line("opening"))

    def hear(self, text: str) -> str:
        """Take the agent's message; give the reply."""
        self.left -= 1
        kept: list[str] = []
        right = self._put_right(kept)
        said, cost = self._react(self.rules.understand(text), kept, excused=bool(right))
        self.patience -= cost
        if not self.verdict and self.patience <= 0:
            self.verdict = "walked out"
        elif not self.verdict and self.left <= 0:
            self.verdict = "out of questions"
        if self.verdict:
            kept.append(self.rules.called(self.secret))
            return self.manner.put(self._line(self.verdict), kept)
        return self.manner.put(f"{right} {said}".strip(), kept)

    def guessed(self, text: str) -> bool:
        """Whether a message is one guess, and right."""
        heard = self.rules.understand(text)
        return [q.answer(self.secret) for q in heard.questions] == ["right"]

    def note(self, told: Told[S]) -> None:
        """Take note of an answer, whoever gave it; what contradicts all before starts afresh."""
        fitting = [s for s in self.possible if told.fits(s)]
        if fitting:
            self.told.append(told)
        elif fitting := [s for s in self.rules.secrets if told.fits(s)]:
            self.told = [told]
        else:
            return
        self.possible = self.certain = fitting

    def _react(self, heard: Heard[S], kept: list[str], excused: bool) -> tuple[str, int]:
        """What to say to a message, and what it costs, in patience."""
        if heard.too_long:
            return self._line("too_long"), 2
        if heard.gives_up:
            self.verdict = "gave up"
            return "", 0
        if len(heard.questions) != 1:
            kind = "several" if heard.questions else "confused" if heard.asks else "stalled"
            return self._line(kind), 1
        return self._answer(heard.questions[0], kept, excused)

    def _answer(self, question: Question[S], kept: list[str], excused: bool) -> tuple[str, int]:
        self.questions += 1
        told = Told(question, question.answer(self.secret))
        if told.answer == "right":
            self.verdict = "guessed"
            return "", 0
        if self.questions == self._forgets_at:
            self.left += 1
            return self._line("again"), 0
        wrong = Told(question, _OPPOSITE.get(told.answer, told.answer))
        before = self.possible
        mixes_up = self.questions == self._mixes_up_at and wrong != told
        if mixes_up and any(wrong.fits(s) for s in before):
            self.note(wrong)
            self.certain, self.mixed_up = before, told
            told = wrong
        else:
            self.note(told)
        news = excused or len(self.possible) < len(before)
        stated = self.rules.state(told, before, self.possible, self._line)
        return self._say("agree" if told.answer == "yes" else "deny", stated, kept), 1 - news

    def _put_right(self, kept: list[str]) -> str:
        """Correct the last answer, if it was wrong."""
        if self.mixed_up is None:
            return ""
        right, self.mixed_up = self.mixed_up, None
        self.told = [told for told in self.told if told.question != right.question]
        self.possible = self.certain
        self.note(right)
        alone = [s for s in self.rules.secrets if right.fits(s)]
        stated = self.rules.state(right, self.rules.secrets, alone, self._line)
        return self._say("correct", stated, kept)

    def _say(self, kind: str, fact: str, kept: list[str]) -> str:
        """Tell a fact; what must be written right is added to ``kept``."""
        terse = f"terse {kind}"
        line = self._line(terse if self.persona.terse and terse in self._lines else kind)
        before, placeholder, after = re.split(r"(\{fact\}|\{Fact\}|$)", line, maxsplit=1)
        if placeholder == "{Fact}":
            fact = fact[0].upper() + fact[1:]
        # "No, higher than 50" without its comma would say the opposite.
        kept.append(f"{before[-2:]}{fact}" if placeholder else line)
        return f"{before}{fact}{after}" if placeholder else line

    def _early(self, chance: float) -> int:
        """The number of a question at which something happens with a chance; 0 if it does not."""
        at = int(self.rng.integers(1, EARLY + 1))
        return at if self.rng.random() < chance else 0

    def _line(self, kind: str) -> str:
        line = self.manner.pick(self._lines[kind])
        return line.replace("{secret}", self.rules.called(self.secret))

    @property
    def _lines(self) -> Mapping[str, Sequence[str]]:
        return self.rules.lines(self.split)
