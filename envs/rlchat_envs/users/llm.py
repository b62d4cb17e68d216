"""Users spoken by a language model: it rephrases the agenda or plays the whole person."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rlchat_envs.core.messages import Conversation, Message, declare, declared
from rlchat_envs.core.protocols import Case, Reaction, Scenario, ScriptedAgent
from rlchat_envs.core.resolution import WRONG
from rlchat_envs.core.tools import Call
from rlchat_envs.users.llm_text import MOST_LETTERS, MOST_WORDS, _words, codes, keeps, tidy, whole
from rlchat_envs.users.persona_scenario import split_rng
from rlchat_envs.users.personas import choose_personas

if TYPE_CHECKING:
    from rlchat_envs.knowledge import Document, Triple

REPHRASES, PLAYS = "llm:", "llm-person:"  # what the names of such users start with
FAMILY = "agenda"  # whose lines are rephrased, and who helps out where the writer fails
LEFT = WRONG  # the verdict on an agent whose user has left
PATIENCE = 6  # where a case does not say how much its user has
MOST_HEARD = 2000  # letters of an agent's message that the writer gets

_LEAVES = re.compile(r"\[\s*leaves\s*\]", re.IGNORECASE)


class WriterError(RuntimeError):
    """The writer has no answer this time."""


class Writer(Protocol):
    """A chat model that speaks for users."""

    def __call__(self, conversation: Conversation, seed: int) -> str:
        """Say the next assistant message; the same seed gives the same one where that is possible.

        Raises:
            WriterError: it cannot.
        """
        ...


class WrittenScenario(Scenario):
    """A scenario with users ``llm:…`` and ``llm-person:…`` beside its own."""

    def __init__(self, scenario: Scenario, writers: Mapping[str, Writer]):
        """Add users to a scenario.

        Args:
            scenario: whose goals and desk they have.
            writers: who speaks for them, by their names.

        Raises:
            ValueError: a name from which it cannot be told what the writer does.
        """
        for name in writers:
            if not name.startswith((REPHRASES, PLAYS)):
                raise ValueError(
                    f"expected users called {REPHRASES}… or {PLAYS}…; got {name!r}; put one of "
                    "them before the model's name"
                )
        self.scenario, self.writers = scenario, writers

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The scenario's own."""
        return self.scenario.agents

    @property
    def optimum(self) -> float | None:
        """The scenario's own."""
        return self.scenario.optimum

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> Case:
        """Draw a user, equally among the names, and open a case of theirs."""
        choose_personas(split, [name for name in users if name not in self.writers])
        if not any(name in self.writers for name in users):
            return self.scenario.begin(rng, split, users)
        name = users[int(rng.integers(len(users)))]
        if name not in self.writers:
            return self.scenario.begin(rng, split, (name,))
        case = self.scenario.begin(rng, split, (FAMILY,))
        made = PlayedCase if name.startswith(PLAYS) else RephrasedCase
        return made(case, name, self.writers[name], split, split_rng(rng, split))


class WrittenCase(Case):
    """A case whose user's words are a writer's; all else is the case's own."""

    def __init__(self, case: Case, name: str, writer: Writer, split: str, rng: np.random.Generator):
        """Put a writer before a case.

        Args:
            case: one of a user of the family ``agenda``.
            name: of the user, as it was given.
            writer: speaks.
            split: the side that the user's manner comes from.
            rng: draws that manner, and the writer's seeds.
        """
        self._case, self._name, self._writer, self._rng = case, name, writer, rng
        manners = _words()["manners"][split]
        self._manner = str(manners[int(rng.integers(len(manners)))])
        self.kept_lines = 0  # of the agenda's own, as the writer had none that would do

    @property
    def potential(self) -> float:
        """The case's own."""
        return self._case.potential

    @property
    def success(self) -> bool:
        """The case's own."""
        return self._case.success

    @property
    def privileged(self) -> Mapping[str, Any]:
        """What the case hides, who speaks, and ``kept_lines``."""
        return {**self._case.privileged, "family": self._name, "kept_lines": self.kept_lines}

    @property
    def solution(self) -> str:
        """The case's own."""
        return self._case.solution

    @property
    def documents(self) -> tuple[Document, ...]:
        """The case's own."""
        return self._case.documents

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The case's own."""
        return self._case.triples

    @property
    def sought(self) -> tuple[str, ...]:
        """The case's own."""
        return self._case.sought

    def serve(self, calls: tuple[Call, ...], person: bool = False) -> Reaction:
        """The case's own; a user who leaves over it does so in the agenda's words."""
        return self._case.serve(calls, person)

    def overhear(self, text: str) -> None:
        """Pass it on."""
        self._case.overhear(text)

    def tell(self, text: str) -> Conversation:
        """Pass it on: a person speaks for themselves."""
        return self._case.tell(text)

    def judge(self, text: str) -> float:
        """The case's own."""
        return self._case.judge(text)

    def costs_of(self, text: str) -> Mapping[str, float]:
        """The case's own."""
        return self._case.costs_of(text)

    def _ask(self, conversation: Conversation) -> str:
        """What the writer says, made tidy; empty if it says nothing, or nothing in its role."""
        try:
            said = tidy(self._writer(conversation, int(self._rng.integers(2**31))))
        except WriterError:
            return ""
        return "" if any(words in said.casefold() for words in _words()["out_of_role"]) else said


class RephrasedCase(WrittenCase):
    """The agenda decides what is said, the writer only how.

    A line that loses or adds a fact, as far as `keeps` can tell, is not taken. Nor is the last one
    rephrased, which nobody answers.
    """

    @cached_property
    def opening(self) -> Conversation:
        """The case's own, rephrased."""
        return self._rephrased(self._case.opening)

    def hear(self, text: str) -> Reaction:
        """React as the case does, in other words."""
        reaction = self._case.hear(text)
        if reaction.terminated:
            return reaction
        return replace(reaction, messages=self._rephrased(reaction.messages))

    def _rephrased(self, messages: Conversation) -> Conversation:
        return tuple(
            replace(m, content=self._other_words(m.content)) if m.role == "user" else m
            for m in messages
        )

    def _other_words(self, line: str) -> str:
        told = _words()["rephrase"].strip().format(manner=self._manner)
        said = self._ask((Message("system", told), Message("user", line)))
        values = [value for value in self._case.privileged.values() if isinstance(value, str)]
        if said and keeps(line, said, values):
            return said
        self.kept_lines += 1
        return line


class PlayedCase(WrittenCase):
    """The writer plays the person, with the card that a person gets in ``rlchat chat``.

    The case judges the agent's messages and is told the person's, as there. Who has had enough
    leaves: after as many turns without news as the case's user has patience, or at ``[LEAVES]``.
    """

    def __init__(self, case: Case, name: str, writer: Writer, split: str, rng: np.random.Generator):
        """Give the writer its card; see `WrittenCase`."""
        super().__init__(case, name, writer, split, rng)
        privileged = case.privileged
        told = _words()["play"].strip().format(card=privileged.get("card", ""), manner=self._manner)
        self._talk = [Message("system", told), Message("user", _words()["opening"])]
        self._patience = int(privileged.get("patience", PATIENCE))
        self._left = False

    @property
    def privileged(self) -> Mapping[str, Any]:
        """What the case hides, who speaks, their patience, and ``kept_lines``."""
        left = {"verdict": "walked out"} if self._left else {}
        return {**super().privileged, "patience": self._patience, **left}

    @cached_property
    def opening(self) -> Conversation:
        """The case's own, with the person's first words."""
        given = self._case.opening
        said, _ = self._say(self._tells_too_much)
        if said:
            told = (*self._case.tell(said), *(m for m in given if m.role == "tool"))
            tools = declared(given)
            given = declare((*(m for m in given if m.role == "system"), *told), tools)
        self._note(given)
        return given

    def overhear(self, text: str) -> None:
        """Take note of the agent's message, once."""
        heard = whole(text)[:MOST_HEARD].strip() or "..."  # servers refuse what is empty
        message = Message("user", heard)  # the writer itself is the assistant here
        if self._talk[-1] != message:
            self._talk.append(message)
            self._case.overhear(text)

    def tell(self, text: str) -> Conversation:
        """Let another person speak, for once."""
        told = self._case.tell(text)
        self._note(told)
        return told

    def hear(self, text: str) -> Reaction:
        """Judge the message, or let the person answer and the desk look it up."""
        self.overhear(text)
        if self._case.judge(text):
            return self._case.hear(text)
        costs = self._case.costs_of(text)
        before = self._case.potential
        said, leaves = self._say()
        if leaves:
            return self._leave((Message("user", said),), costs)
        reaction = Reaction(self._case.tell(said)) if said else self._case.hear(text)
        self._note(reaction.messages)
        if any(m.role == "tool" for m in reaction.messages) or self._case.potential > before:
            return replace(reaction, costs=costs)
        self._patience -= 1
        if self._patience <= 0 and not reaction.terminated:
            return self._leave(reaction.messages, costs)
        return replace(reaction, costs=costs)

    def _leave(self, messages: Conversation, costs: Mapping[str, float]) -> Reaction:
        self._left = True
        return Reaction(messages, True, LEFT, costs)

    def _say(self, refused: Callable[[str], bool] = lambda text: False) -> tuple[str, bool]:
        """Let the writer speak, twice if the first time was no use.

        Returns:
            Its words, empty if the agenda has to help out; and whether it leaves.
        """
        for _ in range(2):
            text = self._ask(tuple(self._talk))
            leaves = bool(_LEAVES.search(text))
            said = " ".join(_LEAVES.sub(" ", text).split()[:MOST_WORDS])[:MOST_LETTERS].strip()
            if leaves and not said:
                said = str(_words()["goodbye"])
            if said and not refused(said):
                return said, leaves
        self.kept_lines += 1
        return "", False

    def _tells_too_much(self, text: str) -> bool:
        """Whether it tells at once a number that the agent has to ask for."""
        card = codes(str(self._case.privileged.get("card", "")))
        given = " ".join(m.content for m in self._case.opening)
        return bool(codes(text) & card - codes(given))

    def _note(self, messages: Conversation) -> None:
        """Remember what the person has said; what the desk's books show is not for them."""
        said = [whole(m.content) for m in messages if m.role == "user"]
        self._talk.append(Message("assistant", " ".join(said)))
