"""Named questions about a conversation, read from a YAML file."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlchat.errors import UserError
from rlchat.files import at_home
from rlchat.rewards.rubric.config import RUBRIC
from rlchat.rollout.trajectory import Episode
from rlchat_envs.core.located_yaml import Located, read_located

DEFAULT = "default"  # the name of the rubric that comes with the package
YES, NO = "yes", "no"
_YES_NO = "yes/no"
_FIELDS = ("kind", "weight", "agrees_with")
_NAME = re.compile(r"[a-z][a-z0-9_ -]{0,39}")
_SCALE = re.compile(r"1-([2-9])")
_COMPARISON = re.compile(r"([^<>=]+?)\s*(>=|<=|>|<|=)\s*(-?\d+(?:\.\d+)?)")
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Verdict:
    """What the world says of an episode: its success, or how a part or a cost compares."""

    name: str
    comparison: str = ""
    number: float = 0.0

    @classmethod
    def read(cls, located: Located) -> Verdict:
        """Read ``success``, or a comparison such as ``courtesy >= 0``."""
        text = located.text().strip()
        if text == "success":
            return cls(text)
        found = _COMPARISON.fullmatch(text)
        if found is None:
            located.wrong(
                "success, or a part or cost of the episode compared with a number, as in "
                "courtesy >= 0 or cost = 0"
            )
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        """The verdict as it is written in the file."""
        return f"{self.name} {self.comparison} {self.number:g}" if self.comparison else self.name

    def of(self, episodes: Sequence[Episode]) -> list[bool | None]:
        """The verdict on each episode; None where the world tells nothing of that name.

        A part or cost that some episode has, and another has not, is 0 there.
        """
        if not self.comparison:
            return [episode.success for episode in episodes]
        whole: Mapping[str, Callable[[Episode], float]] = {
            "score": lambda episode: episode.score,
            "cost": lambda episode: episode.cost,
            "turns": lambda episode: float(len(episode.parts)),
        }
        read = whole.get(self.name, self._sum)
        known = self.name in whole or any(
            self.name in named for e in episodes for named in (*e.parts, *e.costs)
        )
        holds = _COMPARED[self.comparison]
        return [holds(round(read(e), 9), self.number) if known else None for e in episodes]

    def _sum(self, episode: Episode) -> float:
        """The part, or else the cost, over all turns."""
        named = [n[self.name] for n in episode.parts if self.name in n]
        return sum(named or [n[self.name] for n in episode.costs if self.name in n])


@dataclass(frozen=True)
class Question:
    """A question about a conversation.

    An answer is a number: of yes or no the probability of yes, which is 0 or 1 from a judge that
    tells none; of a scale a number from 1 to its top.

    Attributes:
        name: In tables and files.
        ask: The question itself.
        top: Of the scale; 0 if the question asks for yes or no.
        good_is_high: Whether yes, or the top, is the good answer.
        weight: Of the question in the rubric's score.
        verdict: Of the world, which holds if the answer should be the good one; None if it has
            none.
    """

    name: str
    ask: str
    top: int = 0
    good_is_high: bool = True
    weight: float = 1.0
    verdict: Verdict | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The answers that there are; of a scale in its order."""
        return tuple(map(str, range(1, self.top + 1))) if self.top else (YES, NO)

    @property
    def instruction(self) -> str:
        """How to answer."""
        if self.top:
            return f"Answer with one number from 1 to {self.top}, and nothing else."
        return "Answer with one word, yes or no, and nothing else."

    @property
    def text(self) -> str:
        """All that a judge is asked: answers are kept under it."""
        return f"{self.ask} {self.instruction}"

    @property
    def good(self) -> str:
        """The good answer in words."""
        ends = (self.words[-1], self.words[0]) if self.top else (YES, NO)
        return ends[0] if self.good_is_high else ends[1]

    def said(self, answer: float) -> float:
        """What tables count: 1 for yes and 0 for no; of a scale the number."""
        return answer if self.top else float(answer > 0.5)

    def goodness(self, answer: float) -> float:
        """How good an answer is, from 0 to 1."""
        share = (answer - 1) / (self.top - 1) if self.top else answer
        return share if self.good_is_high else 1.0 - share

    def is_good(self, answer: float) -> bool:
        """Whether it says the good: the good one of yes and no, the better half of a scale."""
        if self.top:
            return self.goodness(answer) > 0.5
        return (answer > 0.5) == self.good_is_high


@dataclass(frozen=True)
class Rubric:
    """Questions, each with another name."""

    questions: tuple[Question, ...]

    def score(self, answers: Mapping[str, float | None]) -> float | None:
        """The weighted mean of how good answers are, from 0 to 1; None if there is none.

        Args:
            answers: by the question's name; those that are missing or unreadable are left out.
        """
        known = [
            (question.weight, question.goodness(answer))
            for question in self.questions
            if (answer := answers.get(question.name)) is not None and question.weight
        ]
        total = sum(weight for weight, _ in known)
        return sum(weight * good for weight, good in known) / total if known else None


def read_rubric(name: str | Path) -> Rubric:
    """Read a rubric from a YAML file.

    Args:
        name: of the file, or ``default``, which comes with the package.

    Raises:
        UserError: it is none; says where in the file.
    """
    own = Path(__file__).with_name("default.yaml")
    path = own if str(name) == DEFAULT else at_home(str(name))
    try:
        found = read_located(path).fields(["questions"], [])["questions"].fields()
        if not found:
            raise ValueError(f"{path}: expected at least one question; got none")
        questions = tuple(_question(name, located) for name, located in found.items())
    except ValueError as error:
        raise UserError(f"{error}; see docs/method/rubrics.md, or use {DEFAULT}") from error
    if not any(question.weight for question in questions):
        raise UserError(f"{path}: expected a question with a weight above 0; got none; give one")
    return Rubric(questions)


def _question(name: str, located: Located) -> Question:
    if not _NAME.fullmatch(name) or name == RUBRIC:
        located.wrong(
            f"a question's name of 1 to 40 small letters, digits and blanks, other than {RUBRIC}",
            repr(name),
        )
    fields = located.fields(["ask", "good"], _FIELDS)
    top = _top(fields["kind"]) if "kind" in fields else 0
    high, low = (str(top), "1") if top else (YES, NO)
    good = fields["good"].one_of((high, low), "a good answer")
    return Question(
        name,
        " ".join(fields["ask"].text().split()),
        top,
        good == high,
        fields["weight"].number(0.0, 1000.0) if "weight" in fields else 1.0,
        Verdict.read(fields["agrees_with"]) if "agrees_with" in fields else None,
    )


def _top(located: Located) -> int:
    text = located.text().strip()
    if text == _YES_NO:
        return 0
    found = _SCALE.fullmatch(text)
    if found is None:
        located.wrong(f"{_YES_NO}, or a scale from 1-2 to 1-9")
    return int(found[1])
