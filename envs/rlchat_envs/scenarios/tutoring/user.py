"""The student: a mind, a manner of talking, and so much patience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rlchat_envs.scenarios.tutoring.arithmetic import Exercise, careless
from rlchat_envs.scenarios.tutoring.goals import TO_PASS, Goal
from rlchat_envs.scenarios.tutoring.knowledge_tracing import Mind
from rlchat_envs.scenarios.tutoring.nlu import MAX_ACTS, Heard, Lesson, Task
from rlchat_envs.scenarios.tutoring.skills import load_data, skills
from rlchat_envs.users.personas import Manner, Persona, small_talk

FREE_TURNS = 8  # of a lesson; each later one costs one patience more
ENOUGH = 2  # right answers in a row, after which another exercise on the same is a bore
TELLS_HOW = 0.7  # probability of telling how one came to a wrong answer; the terse never do


@dataclass(frozen=True, slots=True)
class Answer:
    """What a student answered to an exercise."""

    exercise: Exercise
    given: str

    @property
    def right(self) -> bool:
        """Whether the exercise book accepts it."""
        return self.exercise.accepts(self.given)

    @property
    def checked(self) -> str:
        """The exercise and the answer as the exercise book shows them."""
        verdict = "right" if self.right else f"wrong, it is {self.exercise.right}"
        return f"{self.exercise.skill}: {self.exercise.text}. {self.given} is {verdict}."


@dataclass
class Student:
    """A simulated student.

    Exercises are answered by what the mind has mastered, a misconception giving its systematic
    wrong answer. A message that brings nothing forward costs patience; at zero the student
    leaves.
    """

    goal: Goal
    persona: Persona
    split: str
    rng: np.random.Generator
    answers: list[Answer] = field(default_factory=list)  # all of them, corrections included
    patience: int = 0
    turn: int = 0
    score: int = 0  # exercises of the final test that were right
    verdict: str = ""  # passed, failed, walked out; empty while the lesson goes on
    _done: dict[str, int] = field(default_factory=dict)  # exercises taken from the book
    _looked_up: set[str] = field(default_factory=set)
    _streaks: dict[str, int] = field(default_factory=dict)  # right answers in a row
    _untaught: set[str] = field(default_factory=set)  # got wrong, and not spoken of since
    _copied: set[str] = field(default_factory=set)  # exercises whose answer was given away
    _miswritten: Answer | None = None  # put right with the next message

    def __post_init__(self) -> None:
        """Start with the persona's patience and the goal's gaps."""
        goal = self.goal
        self.patience = self.persona.patience
        self.mind = Mind(
            goal.mistakes,
            goal.abilities,
            self.rng,
            {skill: "unknown" if skill in goal.mistakes else "firm" for skill in goal.page},
        )
        talk = small_talk(self.split)
        tempting = [*talk["temptations"], *self._lines("demands"), *self._lines("demands")]
        self.manner = Manner(self.persona, self.rng, {**talk, "temptations": tempting})

    def open(self) -> str:
        """Say what the lesson is about, and nothing of what goes wrong."""
        line = self._pick("opening_terse" if self.persona.terse else "opening")
        topics = [self.manner.pick(skills()[s].topics[self.split]) for s in self.goal.page]
        a, b, c = topics
        said = line.format(name=self.goal.name, a=a, b=b, c=c)
        return self.manner.put(f"{said[0].upper()}{said[1:]}")

    def hear(self, heard: Heard) -> tuple[str, tuple[Answer, ...]]:
        """Take the tutor's message; give the reply, and the answers that are in it."""
        heard = self._meant(heard)
        before = len(self.answers)
        said = self._put_right()
        if verdict := self.judge(heard):
            self._finish(verdict)
            return self.manner.put(self._pick(self.verdict)), ()
        acts, cost = self._react(heard)
        self.turn += 1
        self.patience -= cost + (self.turn > FREE_TURNS)
        self.mind.end_turn()
        if self.patience <= 0:
            self.verdict = "walked out"
            return self.manner.put(self._pick("walkout")), ()
        return self.manner.put(" ".join([*said, *acts])), tuple(self.answers[before:])

    def judge(self, heard: Heard) -> str:
        """The result of the final test if the message calls for it; changes nothing."""
        if heard.overwhelms or not heard.test:
            return ""
        return "passed" if self._test() >= TO_PASS else "failed"

    def attend(self, heard: Heard) -> tuple[Exercise, ...]:
        """Take in a message that a person will answer; give the exercises that it sets.

        Those of which the book has none on this page are left out.
        """
        heard = self._meant(heard)
        if heard.overwhelms:
            return ()
        for lesson in (lesson for lesson in heard.lessons if lesson.skill in self.goal.page):
            self.mind.take(lesson)
        tasks = [task for task in self._set(heard) if task.exercise or task.skill in self.goal.page]
        return tuple(map(self._exercise, tasks))

    def note(self, answer: Answer) -> None:
        """Note a person's answer: what they can do is what they master."""
        skill = answer.exercise.skill
        self.answers.append(answer)
        if skill in self.goal.mistakes:  # elsewhere a wrong answer is a slip
            self.mind.states[skill] = "firm" if answer.right else "unknown"
            if not answer.right:
                self.mind.shown.add(skill)

    @property
    def last(self) -> dict[str, Answer]:
        """The latest answer on each skill."""
        return {answer.exercise.skill: answer for answer in self.answers}

    def _test(self) -> int:
        exercises = zip(self.goal.test, self.goal.luck, strict=True)
        return sum(self.mind.passes(exercise.skill, luck) for exercise, luck in exercises)

    def _finish(self, verdict: str) -> None:
        self.verdict, self.score = verdict, self._test()

    def _meant(self, heard: Heard) -> Heard:
        """Of explanations that fit several skills, those of a skill that was just got wrong."""
        lessons = heard.lessons
        needed = tuple(lesson for lesson in lessons if lesson.skill in self.mind.shown)
        if any(lesson.hint for lesson in lessons):
            return replace(heard, lessons=needed or lessons[:1])
        return replace(heard, lessons=needed) if needed and len(lessons) <= MAX_ACTS else heard

    def _react(self, heard: Heard) -> tuple[list[str], int]:
        """What to say about a message, and what it costs in patience."""
        if heard.overwhelms:
            return [self._pick("overwhelmed")], 2
        taken = [*map(self._take, heard.lessons), *self._copy(heard)]
        done = [self._do(task) for task in self._set(heard)]
        if heard.probes:
            done.append(self._tell_how())
        if not taken and not done:
            return [self._pick("confused" if heard.asks else "stalled")], 1
        # One exercise that brings something forward is enough; needless words annoy in any case.
        costs = [*(cost for _, cost in taken), min((cost for _, cost in done), default=0)]
        return [line for line, _ in taken + done], max(costs)

    def _take(self, lesson: Lesson) -> tuple[str, int]:
        if lesson.skill not in self.goal.page:
            return self._pick("off_page"), 1
        self._untaught.discard(lesson.skill)
        needed = self.mind.take(lesson)
        kind = "hinted" if lesson.hint else "taken" if needed else "knew"
        return self._pick(kind), int(not needed)

    def _copy(self, heard: Heard) -> list[tuple[str, int]]:
        """Note answers that are given away; that teaches nothing."""
        given = self.gives_away(heard)
        self._copied |= set(given)
        return [(self._pick("copied"), 1)] if given and not heard.lessons else []

    def gives_away(self, heard: Heard) -> tuple[str, ...]:
        """The exercises that the message tells the answer of, set in it or got wrong before."""
        set_now = [task.exercise for task in heard.tasks if task.exercise]
        wrong = [a.exercise for a in self.last.values() if not a.right]
        return tuple(e.text for e in [*set_now, *wrong] if any(map(e.accepts, heard.told)))

    def _set(self, heard: Heard) -> tuple[Task, ...]:
        """The exercises that the message sets; "another" is one more on what was last done."""
        last = self.answers[-1].exercise if self.answers else None
        if last and heard.again:
            return (Task(last.skill, last),)
        if last and heard.another:
            return (Task(last.skill),)
        return heard.tasks

    def _exercise(self, task: Task) -> Exercise:
        if task.exercise is not None:
            return task.exercise
        stock, done = self.goal.exercises[task.skill], self._done.get(task.skill, 0)
        self._done[task.skill] = done + 1
        return stock[done % len(stock)]

    def _do(self, task: Task) -> tuple[str, int]:
        """Answer an exercise."""
        skill = task.skill
        if skill not in self.goal.page:
            return self._pick("off_page"), 1
        if skill not in self._looked_up and self.rng.random() < self.persona.forgets:
            self._looked_up.add(skill)
            return self._pick("lookup"), 1
        exercise = self._exercise(task)
        bored, stuck = self._streaks.get(skill, 0) >= ENOUGH, skill in self._untaught
        answer, how = self._answer(exercise)
        self.answers.append(answer)
        self._streaks[skill] = self._streaks.get(skill, 0) + 1 if answer.right else 0
        line = self._worded(answer, how)
        if bored:
            return f"{self._pick('enough')} {line}", 1
        if stuck and not answer.right:
            return f"{self._pick('same_again')} {line}", 1
        return line, 0

    def _answer(self, exercise: Exercise) -> tuple[Answer, str]:
        """The answer, and how it came about if that is told."""
        skill = exercise.skill
        if exercise.text in self._copied:
            return Answer(exercise, exercise.right), ""
        outcome, persona = self.mind.try_one(skill), self.persona
        if outcome == "right":
            right = Answer(exercise, exercise.right)
            if not persona.contradicts or self.rng.random() >= persona.contradicts:
                return right, ""
            self._miswritten = right
        else:
            self._untaught.add(skill)
        if outcome != "mistake":
            return Answer(exercise, careless(exercise)), ""
        mistake = self.goal.mistakes[skill]
        tells = not persona.terse and self.rng.random() < TELLS_HOW
        how = self.manner.pick(skills()[skill].mistakes[mistake].said[self.split])
        return Answer(exercise, exercise.faults[mistake]), how if tells else ""

    def _worded(self, answer: Answer, how: str) -> str:
        if self.persona.terse:
            return f"{answer.given}."
        line = self._pick("answer").format(answer=answer.given)
        return f"{line} {how}" if how else line

    def _put_right(self) -> list[str]:
        """Correct what was miswritten with the last message."""
        answer, self._miswritten = self._miswritten, None
        if answer is None:
            return []
        self.answers.append(answer)
        self._streaks[answer.exercise.skill] = 1
        return [self._pick("correct").format(answer=answer.given)]

    def _tell_how(self) -> tuple[str, int]:
        wrong = [a.exercise.skill for a in self.answers[-1:] if not a.right]
        if not wrong or wrong[0] not in self.goal.mistakes:
            return self._pick("no_how"), 1
        mistake = skills()[wrong[0]].mistakes[self.goal.mistakes[wrong[0]]]
        return self.manner.pick(mistake.said[self.split]), 0

    def _pick(self, kind: str) -> str:
        return self.manner.pick(self._lines(kind))

    def _lines(self, kind: str) -> Sequence[str]:
        lines: Sequence[str] = load_data("phrasings")[self.split][kind]
        return lines
