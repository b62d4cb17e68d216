"""What a consultation's file knows, as documents and as a graph, and an agent that uses both.

The agent is the classical way to hold a dialogue: it links what the user says to the graph, asks
for what a rule still lacks, and answers from templates. It never reads privileged information.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rlchat_envs.consultation.agents import Wording
from rlchat_envs.consultation.goals import Goal
from rlchat_envs.consultation.reading import placeholders
from rlchat_envs.consultation.spec import ConsultSpec, Problem
from rlchat_envs.core.messages import Conversation
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.nlu.tfidf import TfIdf

_ALIKE = 0.2  # cosine from which a sentence counts as understood; chosen on the dev side


def documents(goal: Goal) -> tuple[Document, ...]:
    """The file's pages with the case's values in them."""
    return tuple(
        Document(document.title, _desk_filled(goal, document.text), document.source)
        for document in goal.spec.documents
    )


def triples(goal: Goal) -> tuple[Triple, ...]:
    """Problems with what they need and what they may come to, and the desk's facts."""
    spec, found = goal.spec, []
    for problem in spec.problems.values():
        for name in problem.needs:
            found.append((problem.called, "asks about", spec.facts[name].called))
        for offer in dict.fromkeys(o for rule in problem.rules for o in rule.offers):
            found.append((problem.called, "may come to", spec.offers[offer].called))
    for name, fact in spec.facts.items():
        if fact.desk:
            found.append((fact.called, "is", goal.shown[name]))
    return tuple(Triple(*parts, "the desk's rules") for parts in found)


def _desk_filled(goal: Goal, text: str) -> str:
    own = {name: goal.shown[name] for name in placeholders(text) if goal.spec.facts[name].desk}
    return text.format_map(own) if own else text


class KnowledgeGraphAgent:
    """Links, asks for what the rules lack, and answers from templates; reads only what is said."""

    def __init__(self, spec: ConsultSpec, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say, self._spec = Wording(spec, seed), spec
        self._problems = TfIdf({n: p.opening["train"] for n, p in spec.problems.items()})
        self._values = {
            name: TfIdf({v: value.said["train"] for v, value in fact.values.items()})
            for name, fact in spec.facts.items()
            if fact.values
        }

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what the rules say about what has been understood so far."""
        spoken = [m for m in conversation if m.role != "system"]
        problem = self._spec.problems[self._problems.usual(spoken[0].content)]
        known, unclear = self._understood(problem, conversation)
        evident = problem.evident(frozenset(known.items()))
        missing = [n for n in problem.needs if n not in known and unclear.get(n, 0) < 3]
        if not missing or (evident and any(n in known for n in problem.needs)):
            offers = evident or problem.right(self._completed(problem, known))
            return self._say.offer(offers[0], self._spec.must_say, kind=True)
        asked = self._say.ask(missing[:2], kind=True)
        return f"{self._say.manner(conversation)} {asked}"

    def _understood(
        self, problem: Problem, conversation: Conversation
    ) -> tuple[dict[str, str], Counter[str]]:
        """Values of facts, from the answers to what was asked; and how often each was asked."""
        known, asked_often = dict[str, str](), Counter[str]()
        asked: tuple[str, ...] = ()
        for message in conversation:
            if message.role == "assistant":
                asked = self._spec.lexicon.understand(message.content).asks
                asked_often.update(asked)
            elif message.role == "user":
                known |= self._read(problem, message.content, asked)
            elif message.role == "tool":
                known |= self._seen(message.content)
        return known, asked_often

    def _read(self, problem: Problem, text: str, asked: Sequence[str]) -> dict[str, str]:
        """Which value of each fact asked for a reply names, sentence by sentence."""
        found: dict[str, tuple[str, float]] = {}
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", text) if s]
        for name in (n for n in asked if n in problem.needs):
            fact = self._spec.facts[name]
            if fact.like:
                found[name] = ("", 1.0)
                continue
            best = max(
                (self._values[name].best(s, problem.possible[name]) for s in (*sentences, text)),
                key=lambda pair: pair[1],
            )
            if best[1] > _ALIKE:
                found[name] = best
        return {name: value for name, (value, _) in found.items()}

    def _seen(self, text: str) -> dict[str, str]:
        """The desk's facts that a record shows."""
        return {
            name: value
            for name, fact in self._spec.facts.items()
            if fact.desk
            for value, worded in fact.values.items()
            if any(line in text for line in worded.said["train"])
        }

    def _completed(self, problem: Problem, known: Mapping[str, str]) -> dict[str, str]:
        """What is known, and the first value of everything else."""
        return {**{n: values[0] for n, values in problem.possible.items() if values}, **known}
