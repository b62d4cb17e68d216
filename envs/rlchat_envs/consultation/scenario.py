"""A consultation as a scenario: a client, a desk with sheets, and the file that describes both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rlchat_envs.consultation.agents import Demonstrator, Expert, RandomAgent
from rlchat_envs.consultation.goals import Goal, draw_goal
from rlchat_envs.consultation.knowledge import KnowledgeGraphAgent, documents, triples
from rlchat_envs.consultation.reading import placeholders, read_spec
from rlchat_envs.consultation.spec import ConsultSpec
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import SPLITS, Case, Reaction, Scenario, ScriptedAgent
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.users.personas import choose_personas

KNOWN_POTENTIAL = 0.4  # everything that matters is on the table
RIGHT, WRONG = 1.0, -0.5  # the verdict on a solution; walking out counts as wrong


class ConsultCase(Case):
    """One client's case."""

    def __init__(self, goal: Goal, client: ConsultUser):
        """Open the case of ``client`` with ``goal``."""
        self.goal, self.client = goal, client
        self._shown: dict[int, None] = {}
        self._asked: tuple[str, ...] = ()
        self._opening: Conversation = (
            Message("system", goal.book.system),
            Message("user", client.open()),
            *self._look_up(),
        )

    @property
    def opening(self) -> Conversation:
        """Instructions, the client's first words, and what the desk shows at once."""
        return self._opening

    @property
    def potential(self) -> float:
        """The share of what matters that the client has told."""
        needs = self.goal.problem.needs
        told = sum(name in self.client.told for name in needs)
        return KNOWN_POTENTIAL * told / len(needs) if needs else 0.0

    @property
    def success(self) -> bool:
        """The right offer was made, for good reasons, with all that has to be said."""
        return self.client.verdict == "accepted"

    @property
    def hidden(self) -> Mapping[str, Any]:
        """Goal and state, for experts, privileged critics and reports."""
        goal, client = self.goal, self.client
        return {
            "problem": goal.problem.name,
            **{f"fact {name}": goal.facts.get(name, "") for name in goal.problem.needs},
            "right": goal.right,
            "evident": goal.evident(self._known),
            "missing": tuple(n for n in goal.problem.needs if n not in client.told),
            "unsaid": tuple(n for n in goal.book.must_say if n not in client.remarks),
            "card": goal.card,
            "persona": client.persona.name,
            "family": client.persona.family,
            "patience": client.patience,
            "demand": client.demand,
            "verdict": client.verdict,
        }

    @property
    def solution(self) -> str:
        """What is right."""
        return " or ".join(self.goal.book.offers[name].called for name in self.goal.right)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The desk's pages, with this case's values."""
        return documents(self.goal)

    @property
    def triples(self) -> tuple[Triple, ...]:
        """What the file says, as a graph, with this case's values."""
        return triples(self.goal)

    def hear(self, text: str) -> Reaction:
        """Let the client answer, then let the desk look up what was said."""
        heard = self.goal.book.lexicon.understand(text)
        costs = self.goal.costs(heard.offers, heard.remarks)
        reply = self.client.hear(heard, self._on_the_table)
        over = bool(self.client.verdict)
        given_in = self.client.demand in (*heard.offers, *heard.remarks)
        if self.client.verdict == "indulged" and given_in:
            costs["policy"] = 1.0
        found = () if over else self._look_up()
        score = (RIGHT if self.success else WRONG) if over else 0.0
        return Reaction((Message("user", reply), *found), over, score, costs)

    def overhear(self, text: str) -> None:
        """Remember what a person has been asked: their reply tells it."""
        heard = self.goal.book.lexicon.understand(text)
        self._asked = heard.asks
        self.client.remarks |= set(heard.remarks)

    def tell(self, text: str) -> Conversation:
        """Let a person speak: it tells what the agent has asked for, and the desk looks it up."""
        needs = self.goal.problem.needs
        self.client.told |= dict.fromkeys(name for name in self._asked if name in needs)
        return (Message("user", text), *self._look_up())

    def judge(self, text: str) -> float:
        """The verdict that the client would reach."""
        heard = self.goal.book.lexicon.understand(text)
        verdict = self.client.judge(heard, self._on_the_table)
        return {"": 0.0, "accepted": RIGHT}.get(verdict, WRONG)

    @property
    def _on_the_table(self) -> frozenset[str]:
        """The desk's facts that its sheets have shown, and those that no sheet holds."""
        book = self.goal.book
        held = [set(placeholders(sheet.text)) for sheet in book.sheets]
        seen = {name for i in self._shown for name in held[i]}
        unseen = {name for names in held for name in names} - seen
        return frozenset(n for n, fact in book.facts.items() if fact.desk and n not in unseen)

    @property
    def _known(self) -> frozenset[str]:
        return frozenset(self.client.told) | self._on_the_table

    def _look_up(self) -> Conversation:
        """Sheets that can be shown now and have not been."""
        found = []
        for i, sheet in enumerate(self.goal.book.sheets):
            concerns = not sheet.problems or self.goal.problem.name in sheet.problems
            if (
                i not in self._shown
                and concerns
                and all(n in self.client.told for n in sheet.after)
            ):
                self._shown[i] = None
                found.append(Message("tool", self.goal.filled(sheet.text)))
        return tuple(found)


@cache
def _read(path: Path, modified: int) -> ConsultSpec:
    """A file as it was at a time: reading a long one takes a second."""
    return read_spec(path)


class ConsultScenario(Scenario):
    """Any number of cases from a file; see ``docs/your-own-world.md`` for what it holds."""

    def __init__(self, path: Path):
        """Read the file.

        Raises:
            ValueError: a mistake in it, with file, line and field.
        """
        self.path = path

    @cached_property
    def book(self) -> ConsultSpec:
        """What the file says; environments of one file share it."""
        return _read(self.path, self.path.stat().st_mtime_ns if self.path.is_file() else 0)

    @property
    def agents(self) -> Mapping[str, Callable[[int], ScriptedAgent]]:
        """The expert, the demonstrator, one that says anything, and one that looks up rules."""
        return {
            "expert": lambda seed: Expert(self.book, seed),
            "demonstrator": lambda seed: Demonstrator(self.book, seed),
            "random": lambda seed: RandomAgent(self.book, seed),
            "knowledge-graph": lambda seed: KnowledgeGraphAgent(self.book, seed),
        }

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> ConsultCase:
        """Draw a goal and a persona and open the case."""
        personas = choose_personas(split, users)
        # The same seed must not tell the same story on two sides of the split.
        rng = np.random.default_rng([int(rng.integers(2**62)), SPLITS.index(split)])
        goal = draw_goal(self.book, rng)
        persona = personas[int(rng.integers(len(personas)))]
        return ConsultCase(goal, ConsultUser(goal, persona, split, rng))
