"""The lesson as a scenario: a goal, a student and an exercise book put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Case, Reaction, ScriptedAgent
from rlchat_envs.core.resolution import resolution
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.scenarios.tutoring.agents import Demonstrator, Expert, RandomTutor
from rlchat_envs.scenarios.tutoring.arithmetic import Exercise, find_numbers
from rlchat_envs.scenarios.tutoring.books import ExerciseBook, OwnBook
from rlchat_envs.scenarios.tutoring.goals import TEST, Goal, draw_goal
from rlchat_envs.scenarios.tutoring.knowledge import KnowledgeGraphTutor, documents, triples
from rlchat_envs.scenarios.tutoring.nlu import Heard, understand
from rlchat_envs.scenarios.tutoring.reading import tidy
from rlchat_envs.scenarios.tutoring.skills import skills
from rlchat_envs.scenarios.tutoring.user import Answer, Student
from rlchat_envs.users.persona_scenario import PersonaScenario
from rlchat_envs.users.personas import Persona

GAIN_POTENTIAL = 0.4  # everything is mastered that was not at the start
SYSTEM = (
    "Tutoring. Set exercises, explain what fails, practise it, then give the final test. "
    "Be kind and brief."
)


class TutoringCase(Case):
    """One student's lesson."""

    def __init__(self, goal: Goal, student: Student):
        """Open the lesson of ``student`` with ``goal``."""
        self.goal, self.student = goal, student
        self._overheard = ""
        self._pending: tuple[Exercise, ...] = ()  # that a person has been set
        self._opening: Conversation = (
            Message("system", SYSTEM),
            Message("user", student.open()),
            Message("tool", goal.page_text),
        )

    @property
    def opening(self) -> Conversation:
        """Instructions, the student's first words, and the page of the exercise book."""
        return self._opening

    @property
    def potential(self) -> float:
        """The learning gain: the share of the gaps that is closed now."""
        return GAIN_POTENTIAL * self.student.mind.gain

    @property
    def success(self) -> bool:
        """The final test was passed."""
        return self.student.verdict == "passed"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Goal and state, for experts, privileged critics and reports."""
        goal, student = self.goal, self.student
        return {
            "name": goal.name,
            "page": goal.page,
            **{f"mistake in {skill}": m for skill, m in goal.mistakes.items()},
            **{f"mastery of {skill}": student.mind.states[skill] for skill in goal.page},
            "mistakes": dict(goal.mistakes),
            "states": dict(student.mind.states),
            "shown": tuple(skill for skill in goal.page if skill in student.mind.shown),
            **asdict(goal.abilities),
            "card": goal.card,
            "persona": student.persona.name,
            "family": student.persona.family,
            "patience": student.patience,
            "verdict": student.verdict,
        }

    @property
    def solution(self) -> str:
        """What had to be explained."""
        told = [
            f"{skill}: {skills()[skill].mistakes[mistake].explain[0]}"
            for skill, mistake in self.goal.mistakes.items()
        ]
        return " ".join(told).removesuffix(".")

    @property
    def documents(self) -> tuple[Document, ...]:
        """The textbook."""
        return documents()

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The textbook as a graph."""
        return triples()

    @property
    def sought(self) -> tuple[str, ...]:
        """What puts the misconceptions right that exercises have just shown."""
        return tuple(
            skills()[skill].mistakes[mistake].explain[0]
            for skill, mistake in self.goal.mistakes.items()
            if skill in self.student.mind.shown and not self.student.mind.masters(skill)
        )

    def hear(self, text: str) -> Reaction:
        """Let the student answer, and the exercise book check the answers."""
        self._overheard, self._pending = "", ()
        heard = understand(text, self.goal.page)
        costs = self._costs(heard)
        reply, answers = self.student.hear(heard)
        verdict = self.student.verdict
        shown = [answer.checked for answer in answers]
        if verdict in ("passed", "failed"):
            shown = [f"Final test: {self.student.score} of {TEST} right, {verdict}."]
        messages = (Message("user", reply), *(Message("tool", line) for line in shown))
        return Reaction(messages, bool(verdict), resolution(verdict, "passed"), costs)

    def overhear(self, text: str) -> None:
        """Remember what a person is told: it is taken in when they reply."""
        self._overheard = text

    def tell(self, text: str) -> Conversation:
        """Let a person speak; the exercise book checks the numbers that they give.

        Exercises without an answer are shown, so that they can be answered next.
        """
        if self._overheard:
            heard = understand(self._overheard, self.goal.page)
            self._overheard = ""
            self._pending = self.student.attend(heard) or self._pending
        given = _answers(text, self._pending)
        answers = [Answer(e, a) for e, a in zip(self._pending, given, strict=False)]
        for answer in answers:
            self.student.note(answer)
        self._pending = self._pending[len(answers) :]
        shown = [answer.checked for answer in answers]
        shown += [f"{e.skill}: {e.text}. No answer yet." for e in self._pending]
        return (Message("user", text), *(Message("tool", line) for line in shown))

    def judge(self, text: str) -> float:
        """The result of the final test, if the message calls for it."""
        verdict = self.student.judge(understand(text, self.goal.page))
        return resolution(verdict, "passed")

    def costs_of(self, text: str) -> Mapping[str, float]:
        """Giving an answer away without explaining anything."""
        return self._costs(understand(text, self.goal.page))

    def _costs(self, heard: Heard) -> Mapping[str, float]:
        gives_away = self.student.gives_away(heard) and not heard.lessons
        return {"giveaway": 1.0} if gives_away else {}


class TutoringScenario(PersonaScenario[Goal, TutoringCase]):
    """A tutor finds out what a student has not mastered, and teaches it before the test."""

    def __init__(self, book: ExerciseBook | None = None):
        """Take exercises from ``book``; our own if None."""
        self.book = book or OwnBook()

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that says anything, and one that uses the graph."""
        return {
            "expert": Expert,
            "demonstrator": Demonstrator,
            "random": RandomTutor,
            "knowledge-graph": KnowledgeGraphTutor,
        }

    def draw(self, rng: np.random.Generator, split: str) -> Goal:
        """Draw a lesson."""
        return draw_goal(rng, split, self.book)

    def open(
        self, goal: Goal, persona: Persona, split: str, rng: np.random.Generator
    ) -> TutoringCase:
        """Open a student's lesson."""
        return TutoringCase(goal, Student(goal, persona, split, rng))


def _answers(text: str, pending: tuple[Exercise, ...]) -> list[str]:
    """The answers in a person's message, in the order of the exercises they answer.

    "1/2 + 1/3 = 5/6" is one answer; of several numbers for one exercise the last is meant.
    """
    plain = tidy(text)
    numbers = find_numbers(re.sub(r"[^=;,\n]*=", " ", plain))
    return numbers[-1:] if len(pending) == 1 else numbers[: len(pending)]
