"""What the textbook knows, as documents and as a graph, and a tutor that uses the graph.

The tutor is the classical way to do this: it diagnoses by looking up which misconception a wrong
answer is a symptom of, and speaks from templates. It never reads privileged information.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from rlchat_envs.core.messages import Conversation
from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.scenarios.tutoring.agents import Wording
from rlchat_envs.scenarios.tutoring.arithmetic import pool
from rlchat_envs.scenarios.tutoring.record import read_record
from rlchat_envs.scenarios.tutoring.skills import skills

SOURCE = "the textbook"
NEEDS, MISTAKE, SYMPTOM, CURE = "needs", "common mistake", "shows as", "put right by"


@cache
def documents() -> tuple[Document, ...]:
    """One page a skill: what it is, what goes wrong in it, and what puts that right."""
    pages = []
    for number, skill in enumerate(skills().values(), start=1):
        wrong = [f"Some believe that {m.belief}. {m.explain[0]}" for m in skill.mistakes.values()]
        text = " ".join([skill.text.strip(), *wrong])
        pages.append(Document(skill.name, text, f"textbook, page {number}"))
    return tuple(pages)


@cache
def triples() -> tuple[Triple, ...]:
    """Skills, what they need, the mistakes made in them, their symptoms, and their cures."""
    found = []
    for skill in skills().values():
        example = pool(skill.name)[0]
        found += [(skill.name, NEEDS, other) for other in skill.needs]
        for mistake in skill.mistakes.values():
            found.append((skill.name, MISTAKE, mistake.name))
            found.append(
                (mistake.name, SYMPTOM, f"{example.text} = {example.faults[mistake.name]}")
            )
            found += [(mistake.name, CURE, line) for line in mistake.explain]
    return tuple(Triple(*parts, SOURCE) for parts in found)


class KnowledgeGraphTutor:
    """Sets an exercise on each skill, finds the mistake by its symptom, cures it, sets another.

    Skills come in the order in which they need one another. A wrong answer that is no symptom of
    anything counts as a slip: the skill is tried again.
    """

    def __init__(self, seed: int = 0):
        """``seed`` chooses among wordings only."""
        self._say = Wording(seed)
        self._edges: dict[tuple[str, str], list[str]] = {}
        for triple in triples():
            self._edges.setdefault((triple.subject, triple.relation), []).append(triple.object)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what the graph says about what the exercise book has shown."""
        say, record = self._say, read_record(conversation)
        say.listen(conversation)
        failed = [result for result in record.latest.values() if not result.right]
        for result in failed:
            for mistake in self._edges[result.skill, MISTAKE]:
                if result.mistake == mistake:
                    cure = say.pick(self._edges[mistake, CURE])
                    return f"{cure} {say.say('practice', a=result.skill)}"
        untried = [skill for skill in record.page if skill not in record.latest]
        todo = [*sorted(untried, key=self._depth), *(result.skill for result in failed)]
        return say.set(todo[:2]) if todo else say.say("test")

    def _depth(self, skill: str) -> int:
        """How many skills a skill builds upon."""
        needs = self._edges.get((skill, NEEDS), ())
        return max((1 + self._depth(other) for other in needs), default=0)
