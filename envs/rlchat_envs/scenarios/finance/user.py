"""The client of FinanceFacts: wants to know some facts, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlchat_envs.scenarios.finance.nlu import read
from rlchat_envs.scenarios.finance.products import House, Product, load_facts, product_sheet
from rlchat_envs.users.personas import Manner, Persona, small_talk

FOLLOWS = 0.3  # questions that go on about the product of the one before
MORE = 0.4  # clients with three questions; the others have two


@dataclass(frozen=True, slots=True)
class Question:
    """What a client wants to know; ``same`` if the question before was about the product too.

    ``sought`` are texts of the desk's papers and of its graph that hold the answer.
    """

    relation: str
    product: str
    answer: str
    sought: tuple[str, ...]
    same: bool = False

    def judge(self, text: str) -> str:
        """What a message is as an answer.

        ``right``, ``wrong``, ``several`` values at once; or what `answers.read` gives where none
        is stated.
        """
        unit = load_facts()["relations"][self.relation]["unit"]
        kind, values = read(text, unit)
        if kind != "states":
            return kind
        if len(values) > 1:
            return "several"
        return "right" if values == read(self.answer, unit)[1] else "wrong"


def draw_questions(house: House, rng: np.random.Generator) -> tuple[Question, ...]:
    """Draw two or three questions, no two the same; every relation is as likely as the others."""
    asked: list[tuple[str, Product]] = []
    same: list[bool] = []
    for _ in range(3 if rng.random() < MORE else 2):
        left = [pair for pair in house.answerable if pair not in asked]
        if asked and rng.random() < FOLLOWS:
            left = [pair for pair in left if pair[1] == asked[-1][1]]
        relations = list(dict.fromkeys(relation for relation, _ in left))
        relation = relations[int(rng.integers(len(relations)))]
        pairs = [pair for pair in left if pair[0] == relation]
        pair = pairs[int(rng.integers(len(pairs)))]
        same.append(bool(asked) and pair[1] == asked[-1][1])
        asked.append(pair)
    return tuple(_question(house, *pair, so) for pair, so in zip(asked, same, strict=True))


def _question(house: House, relation: str, product: Product, same: bool) -> Question:
    label, value = load_facts()["relations"][relation]["label"], house.value(product, relation)
    if relation == "country":
        bank = product.values["custodian"]
        sought = (f"{bank} -> {label} -> {value}", house.bank_sheet(bank))
    else:
        sought = (f"{product.name} -> {label} -> {value}", product_sheet(product))
    return Question(relation, product.name, value, sought, same)


@dataclass
class Asker:
    """Asks its questions in order. A wrong answer is believed, and so the question has failed.

    What answers nothing costs patience, and the client asks again in other words; at zero it walks
    out. Forgetful clients want some answers told twice.
    """

    questions: Sequence[Question]
    persona: Persona
    split: str
    rng: np.random.Generator
    at: int = 0
    right: set[int] = field(default_factory=set)
    forgets: set[int] = field(default_factory=set)  # whose answers will be asked for once more
    patience: int = 0
    demand: str = ""
    verdict: str = ""  # content, misled or walked out; empty while the talk goes on

    def __post_init__(self) -> None:
        """Start with the persona's patience, and know what will be forgotten."""
        self.patience = self.persona.patience
        self.lines: Mapping[str, Any] = load_facts()["lines"][self.split]
        talk = small_talk(self.split)
        if self.persona.tempts:
            self.demand = "a guess"
            talk = {**talk, "temptations": [*talk["temptations"], *self.lines["demands"]]}
        self.manner = Manner(self.persona, self.rng, talk)
        chance = self.persona.forgets
        self.forgets = {i for i in range(len(self.questions)) if self.rng.random() < chance}

    @property
    def question(self) -> Question | None:
        """What the client wants to know now; None once everything has been answered."""
        over = self.verdict or self.at >= len(self.questions)
        return None if over else self.questions[self.at]

    def open(self) -> str:
        """Greet, and ask the first question."""
        return self._say("open")

    def hear(self, text: str) -> str:
        """Take the agent's message; give the reply."""
        assert self.question is not None
        judged = self.question.judge(text)
        if judged in ("right", "wrong"):
            return self._note(judged == "right")
        self.patience -= 2 if judged in ("several", "overwhelms") else 1
        if self.patience <= 0:
            self.verdict = "walked out"
            return self._say("walkout")
        kinds = {"unsure": "again", "evades": "stalled", "overwhelms": "overwhelmed"}
        return self._say(kinds.get(judged, judged))

    def judge(self, text: str) -> str:
        """The verdict that ``hear`` would reach about an answer; changes nothing."""
        judged = self.question.judge(text) if self.question else ""
        last = self.at == len(self.questions) - 1
        if judged not in ("right", "wrong") or not last or self.at in self.forgets:
            return ""
        return self._verdict(self._marked(judged == "right"))

    def note(self, text: str) -> None:
        """Go on to the next question, if there is one and ``text`` answers this; say nothing.

        An answer to the last that was to be forgotten is waited for once more: with it the talk
        ends, and only ``hear`` ends it.
        """
        judged = self.question.judge(text) if self.question else ""
        if judged in ("right", "wrong") and self.at < len(self.questions) - 1:
            self.right = self._marked(judged == "right")
            self.at += 1

    def _note(self, right: bool) -> str:
        """Believe an answer; ask for it once more, ask the next question, or take leave."""
        self.right = self._marked(right)
        if self.at in self.forgets:
            self.forgets.remove(self.at)
            return self._say("forgot")
        self.at += 1
        if self.at < len(self.questions):
            return self._say("next")
        self.verdict = self._verdict(self.right)
        return self._say("bye")

    def _marked(self, right: bool) -> set[int]:
        """The questions that are answered rightly, once this one is answered so."""
        return self.right - {self.at} | ({self.at} if right else set())

    def _verdict(self, right: set[int]) -> str:
        return "content" if len(right) == len(self.questions) else "misled"

    def _say(self, kind: str) -> str:
        """A line of one kind, with the question in it where it has a place for it."""
        line = self._pick(self.lines[kind])
        if "{question}" not in line:
            return self.manner.put(line)
        question = self.questions[self.at]
        word = question.product.split()[0]
        it = self._pick(self.lines["same"]) if question.same else f"the {question.product}"
        asked = self._pick(load_facts()["relations"][question.relation][self.split])
        asked = asked.format(it=it.format(word=word))
        asked = asked[0].upper() + asked[1:]
        return self.manner.put(line.format(question=asked), [question.product, word])

    def _pick(self, lines: Sequence[str]) -> str:
        """One wording; the terse choose among the shortest third."""
        if self.persona.terse:
            lines = sorted(lines, key=len)[: -(-len(lines) // 3)]
        return self.manner.pick(lines)
