"""Scripted tutors: the expert, a mediocre one to learn from, and baselines that must fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlchat_envs.core.messages import Conversation
from rlchat_envs.scenarios.tutoring.record import Record, read_record
from rlchat_envs.scenarios.tutoring.skills import load_data, skills


class Wording:
    """Words the acts of a tutor, kindly or curtly, from its own generator."""

    def __init__(self, seed: int):
        """``seed`` chooses among wordings."""
        self.rng = np.random.default_rng(seed)
        self._words = load_data("wording")
        self._said = ""

    def listen(self, conversation: Conversation) -> None:
        """Remember what has been said, in order not to say it again."""
        self._said = "\n".join(m.content for m in conversation if m.role == "assistant")

    def say(self, act: str, kind: bool = True, **values: str) -> str:
        """Word an act, anew if possible."""
        lines = self._words[act]["kind" if kind else "curt"]
        return self.pick([line.format(**values) for line in lines])

    def explain(self, skill: str, mistake: str) -> str:
        """Put a misconception right."""
        return self.pick(skills()[skill].mistakes[mistake].explain)

    def set(self, names: Sequence[str], kind: bool = True) -> str:
        """Set one exercise or two."""
        if len(names) == 1:
            return self.say("task", kind, a=names[0])
        return self.say("tasks", kind, a=names[0], b=names[1])

    def pick(self, lines: Sequence[str]) -> str:
        """Choose one of some wordings, out of those not said before if there are any."""
        fresh = [line for line in lines if line not in self._said] or list(lines)
        return fresh[int(self.rng.integers(len(fresh)))]


class Expert:
    """Tries every skill, explains what fails, practises it, and tests when all is firm.

    It needs privileged information only to see through slips and lucky guesses.
    """

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say = Wording(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what is best."""
        say, states, mistakes = self._say, privileged["states"], privileged["mistakes"]
        say.listen(conversation)
        tried = read_record(conversation).latest
        for skill in privileged["page"]:
            if states[skill] == "unknown" and skill in privileged["shown"]:
                explained = say.explain(skill, mistakes[skill])
                return f"{explained} {say.say('practice', a=skill)}"
        fresh = [skill for skill in privileged["page"] if states[skill] == "fresh"]
        open_ = [s for s in privileged["page"] if s not in tried or states[s] == "unknown"]
        todo = [*fresh, *(skill for skill in open_ if skill not in fresh)]
        return say.set(todo[:2]) if todo else say.say("test")


@dataclass(frozen=True, slots=True)
class Habits:
    """How often a mediocre tutor does what; fixed before PPO first ran, and not a dial for it."""

    singly: float = 0.5  # one exercise at a time, in a whole lesson
    curt: float = 0.5  # a message
    overlooks: float = 0.12  # a skill of the page: never tried
    explains_blind: float = 0.2  # begins with an explanation nobody needs, in a lesson
    gives_answer: float = 0.12  # in place of an explanation
    wrong_skill: float = 0.1  # explains something else
    no_practice: float = 0.25  # after an explanation: takes it for learnt
    tests_early: float = 0.1  # after the first exercises


class Demonstrator:
    """The demonstrator: knows the job, and does it with systematic bad habits.

    It overlooks a skill, explains what nobody needs, gives the answer away, takes what it has
    explained for learnt, and tests too early. It never reads privileged information.
    """

    def __init__(self, seed: int = 0, habits: Habits | None = None):
        """Make a tutor; its generator decides when a habit shows."""
        self._say, self.habits = Wording(seed), habits or Habits()
        self._overlooked: set[str] = set()
        self._settled: set[str] = set()  # explained or told, and not to be looked at again
        self._singly = self._blind = self._early = False

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what habit says."""
        record = read_record(conversation)
        if all(m.role != "assistant" for m in conversation):
            self._begin(record.page)
        say, rng = self._say, self._say.rng
        say.listen(conversation)
        kind = rng.random() >= self.habits.curt
        if self._blind:
            self._blind = False
            return self._explain(str(rng.choice(record.page)), "", kind)
        failed = [s for s, r in record.latest.items() if not r.right and s not in self._settled]
        untried = [s for s in record.page if s not in record.latest and s not in self._overlooked]
        if self._early and record.results:
            return say.say("test", kind)
        if failed:
            return self._teach(record, failed[0], kind)
        if untried:
            return say.set(untried[: 1 if self._singly else 2], kind)
        return say.say("test", kind)

    def _begin(self, page: Sequence[str]) -> None:
        habits, chance = self.habits, self._say.rng.random
        self._overlooked = {skill for skill in page[1:] if chance() < habits.overlooks}
        self._settled = set()
        self._singly = chance() < habits.singly
        self._blind = chance() < habits.explains_blind
        self._early = chance() < habits.tests_early

    def _teach(self, record: Record, skill: str, kind: bool) -> str:
        habits, say, result = self.habits, self._say, record.latest[skill]
        chance = say.rng.random
        if chance() < habits.gives_answer and result.solved:
            self._settled.add(skill)
            return say.say("answer", kind, right=result.solved.right)
        if chance() < habits.wrong_skill:
            others = [s for s in record.page if s != skill]
            return self._explain(say.pick(others), skill, kind)
        practises = chance() >= habits.no_practice
        if not practises:
            self._settled.add(skill)
        return self._explain(skill, skill if practises else "", kind, result.mistake)

    def _explain(self, skill: str, practised: str, kind: bool, mistake: str = "") -> str:
        say = self._say
        said = say.explain(skill, mistake or say.pick(list(skills()[skill].mistakes)))
        if practised:
            return f"{said} {say.say('practice', kind, a=practised)}"
        return f"{say.say('praise')} {said}" if kind else said


class RandomTutor:
    """Sets, hints at, explains or tests anything."""

    def __init__(self, seed: int = 0):
        """``seed`` decides everything it says."""
        self._say = Wording(seed)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say something that a tutor could say."""
        say, every = self._say, list(skills())
        act, skill = say.rng.integers(6), say.pick(every)
        if act == 0:
            return say.say("test")
        if act == 1:
            return say.pick(skills()[skill].hints)
        if act <= 3:
            return say.set([skill])
        return say.explain(skill, say.pick(list(skills()[skill].mistakes)))


class Sprayer:
    """Names every skill and explains everything, in every message."""

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say every keyword."""
        told = [m.explain[0] for s in skills().values() for m in s.mistakes.values()]
        return f"Try one on {', '.join(skills())}. {' '.join(told)} Then take the final test."


class AnswerGiver:
    """Sets an exercise on every skill, tells the answer of whatever fails, and tests."""

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings."""
        self._say = Wording(seed)
        self._told: set[str] = set()

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Set an exercise, or tell its answer."""
        record, say = read_record(conversation), self._say
        say.listen(conversation)
        failed = [r for r in record.latest.values() if not r.right and r.exercise not in self._told]
        if failed and failed[0].solved:
            self._told.add(failed[0].exercise)
            return say.say("answer", right=failed[0].solved.right)
        untried = [skill for skill in record.page if skill not in record.latest]
        return say.set(untried[:2]) if untried else say.say("test")


@dataclass
class ExplainEverything:
    """Explains the whole page, every misconception in turn, sets no exercise, and tests."""

    seed: int = 0
    _said: list[str] = field(default_factory=list)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Explain the next thing."""
        page = read_record(conversation).page
        lines = [m.explain[0] for s in page for m in skills()[s].mistakes.values()]
        todo = [line for line in lines if line not in self._said][:2]
        self._said += todo
        return f"Please listen. {' '.join(todo)}" if todo else Wording(self.seed).say("test")
