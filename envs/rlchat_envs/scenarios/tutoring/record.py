"""What a conversation shows of a lesson, read back from the exercise book's lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.tutoring.arithmetic import Exercise
from rlchat_envs.scenarios.tutoring.reading import read_exercises, tidy

_PAGE = re.compile(r"^Today's page: (.*)\.$")
_CHECKED = re.compile(r"^([^:]+): (.+)\. (\S+) is (right|wrong)\b")


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the exercise book."""

    skill: str
    exercise: str
    given: str
    right: bool

    @property
    def solved(self) -> Exercise | None:
        """The exercise with its answers."""
        found = [e for *_, e in read_exercises(tidy(self.exercise.lower()))]
        return found[0] if found else None

    @property
    def mistake(self) -> str:
        """The misconception that leads to this very answer; empty if none does."""
        faults = {} if self.right or self.solved is None else self.solved.faults
        return next((name for name, wrong in faults.items() if wrong == self.given), "")


@dataclass(frozen=True)
class Record:
    """What a conversation shows: the page, and the exercise book's lines in order."""

    page: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def latest(self) -> dict[str, Result]:
        """The last result on each skill that was tried, in the order of first trials."""
        return {result.skill: result for result in self.results}


def read_record(conversation: Conversation) -> Record:
    """Read what the exercise book has shown."""
    page: tuple[str, ...] = ()
    results = []
    for line in (m.content for m in conversation if m.role == "tool"):
        if match := _PAGE.match(line):
            page = tuple(match[1].split("; "))
        elif match := _CHECKED.match(line):
            results.append(Result(match[1], match[2], match[3], match[4] == "right"))
    return Record(page, tuple(results))
