"""An agent that says what a demonstrator said where the conversation stood much the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from rlchat_envs.core.env import DialogueEnv
from rlchat_envs.core.messages import Conversation
from rlchat_envs.core.protocols import Scenario
from rlchat_envs.knowledge import Bm25Index, Document

LATE = 3  # turns; from then on they all look alike
NEAREST = 10  # contexts whose replies are considered


class RetrievalAgent:
    """Picks its reply from an index of demonstration turns, by context.

    The context is the user's opening and latest message, what the desk has shown, and how many
    turns the agent has had. Demonstrations are played on the training side; only those that
    succeeded are indexed. A reply is said as it stands, with the facts of its demonstration, and
    not twice in an episode if another is near.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, demonstrations: int = 500):
        """Take the index of a scenario, which is built once.

        Args:
            scenario: one with an agent called ``demonstrator``.
            seed: changes nothing, as nothing is drawn; every scripted agent takes one.
            demonstrations: episodes played for the index.
        """
        self._memory = remember(scenario, demonstrations)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        """Say what was said in the most similar context."""
        return self._memory.recall(conversation)


class Memory:
    """Contexts and the replies that were given in them."""

    def __init__(self, turns: list[tuple[Conversation, str]]):
        """Index turns: a conversation up to the agent's message, and the message."""
        self._replies = [reply for _, reply in turns]
        self._index = Bm25Index(
            [Document("", context(said), str(i)) for i, (said, _) in enumerate(turns)], threshold=0
        )

    def recall(self, conversation: Conversation) -> str:
        """The reply given in the context that is most like this one's, of those not said yet."""
        found = self._index.search(context(conversation), NEAREST)
        replies = [self._replies[int(document.source)] for document, _ in found] or self._replies
        said = {m.content for m in conversation if m.role == "assistant"}
        return next((reply for reply in replies if reply not in said), replies[0])


_memories: WeakKeyDictionary[Scenario, dict[int, Memory]] = WeakKeyDictionary()


def remember(scenario: Scenario, demonstrations: int) -> Memory:
    """The index of a scenario; built with the first call, as that takes a second."""
    known = _memories.setdefault(scenario, {})
    if demonstrations not in known:
        known[demonstrations] = Memory(successful_turns(scenario, demonstrations))
    return known[demonstrations]


def successful_turns(scenario: Scenario, demonstrations: int) -> list[tuple[Conversation, str]]:
    """Play demonstrations, seeds 0 and on, and give the turns of those that succeeded."""
    env = DialogueEnv(scenario, "train")
    turns: list[tuple[Conversation, str]] = []
    for seed in range(demonstrations):
        conversation = _demonstrate(env, seed)
        turns += _turns(conversation) if env.case.success else []
    if not turns:
        raise ValueError(
            f"expected a demonstration that succeeds; got none out of {demonstrations}; play more"
        )
    return turns


def context(conversation: Conversation) -> str:
    """What is known when the agent speaks next, as text that can be searched."""
    turn = sum(m.role == "assistant" for m in conversation)
    said = [m.content for m in conversation if m.role == "user"]
    shown = [m.content for m in conversation if m.role == "tool"]
    return " ".join([f"turn{min(turn, LATE)}", *dict.fromkeys([*said[:1], *said[-1:], *shown])])


def _demonstrate(env: DialogueEnv, seed: int) -> Conversation:
    agent = env.scenario.agents["demonstrator"](seed)
    _, info = env.reset(seed=seed)
    over = False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        *_, terminated, truncated, info = env.step(said)
        over = terminated or truncated
    conversation: Conversation = info["conversation"]
    return conversation


def _turns(conversation: Conversation) -> Iterator[tuple[Conversation, str]]:
    for i, message in enumerate(conversation):
        if message.role == "assistant":
            yield conversation[:i], message.content
