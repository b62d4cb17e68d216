"""Knowledge in the observation: what the desk looks up comes with the user's message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from rlchat_envs.core.env import DialogueEnv
from rlchat_envs.core.messages import Conversation, Message, as_text
from rlchat_envs.knowledge.lookup import Lookup
from rlchat_envs.nlu.words import fold


class KnowledgeWrapper(gym.Wrapper[str, str, str, str]):
    """Shows what lookups find in the user's latest message, as messages of the desk.

    After ``reset`` and after every ``step`` that does not end the episode, what was found comes
    behind the user's message: in the observation, on lines that start with ``[desk] ``, and in
    ``info["conversation"]``, where it stays in its place. The wrapped environment, its scorer
    included, does not know of it.

    ``info["knowledge"]`` counts over the episode: ``looked_up`` (turns), ``found`` (messages),
    ``sought`` (turns in which the case names texts that would answer the user) and ``hits`` (those
    of them in which one of the texts occurs in what was found, now or earlier).
    """

    def __init__(self, env: gym.Env[str, str], *lookups: Lookup):
        """Wrap an environment.

        Args:
            env: a `DialogueEnv`, or a wrapper over one.
            lookups: asked in this order; what all of them find counts as found.
        """
        if not isinstance(env.unwrapped, DialogueEnv):
            raise ValueError(f"expected a DialogueEnv or a wrapper over one; got {env}; wrap that")
        if env.has_wrapper_attr("lookups") or not lookups:
            raise ValueError(
                "expected one KnowledgeWrapper with all lookups; got "
                + ("another one inside it" if lookups else "no lookup")
                + "; write KnowledgeWrapper(env, DocumentLookup(), GraphLookup())"
            )
        super().__init__(env)
        self.dialogue = env.unwrapped
        self.lookups = lookups
        self._conversation: Conversation = ()
        self._known = 0  # messages of the wrapped environment that are in the conversation
        self._found: list[Message] = []
        self._counts: dict[str, int] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode and look up what the opening calls for."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._conversation, self._known, self._found = (), 0, []
        self._counts = dict.fromkeys(("looked_up", "found", "hits", "sought"), 0)
        for lookup in self.lookups:
            lookup.begin(self.dialogue.case)
        return self._with_knowledge(observation, info, over=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one turn and look up what the user's reply calls for."""
        observation, score, terminated, truncated, info = self.env.step(action)
        observation, info = self._with_knowledge(observation, info, terminated or truncated)
        return observation, float(score), terminated, truncated, info

    def _with_knowledge(
        self, observation: str, info: dict[str, Any], over: bool
    ) -> tuple[str, dict[str, Any]]:
        """Add what is found, and the counts, to what the wrapped environment gave."""
        self._conversation += info["conversation"][self._known :]
        self._known = len(info["conversation"])
        found = () if over else self._look_up()
        self._conversation += found
        knowledge = {"conversation": self._conversation, "knowledge": dict(self._counts)}
        return "\n".join(filter(None, (observation, as_text(found)))), info | knowledge

    def _look_up(self) -> Conversation:
        found: Conversation = ()
        for lookup in self.lookups:
            found += lookup.find(self._conversation + found)
        self._found += found
        self._counts["looked_up"] += 1
        self._counts["found"] += len(found)
        if sought := self.dialogue.case.sought:
            self._counts["sought"] += 1
            self._counts["hits"] += _holds(self._found, sought)
        return found


def hit_rate(knowledge: Mapping[str, int]) -> float | None:
    """The share of turns with something sought in which it was found; None if nothing was sought.

    Args:
        knowledge: ``info["knowledge"]``, or such counts added up over episodes.
    """
    return knowledge["hits"] / knowledge["sought"] if knowledge["sought"] else None


def _holds(found: list[Message], sought: tuple[str, ...]) -> bool:
    """Whether a sought text stands in what was found; case, accents and spacing do not matter."""
    texts = [fold(message.content) for message in found]
    return any(fold(answer) in text for answer in sought for text in texts)
