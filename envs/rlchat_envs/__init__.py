"""rlchat's text worlds for Gymnasium. Importing this registers them; it never loads torch."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from rlchat_envs.dialogue import (
    SPLITS,
    Case,
    DialogueEnv,
    Reaction,
    Scenario,
    Scorer,
    ScriptedAgent,
)
from rlchat_envs.messages import Conversation, Message, as_text
from rlchat_envs.spaces import Utterance

__all__ = [
    "SPLITS",
    "Case",
    "Conversation",
    "DialogueEnv",
    "Message",
    "Reaction",
    "Scenario",
    "Scorer",
    "ScriptedAgent",
    "Utterance",
    "as_text",
]


def _support(**kwargs: Any) -> DialogueEnv:
    from rlchat_envs.support import SupportScenario

    return DialogueEnv(SupportScenario(), **kwargs)


gym.register("rlchat/Support-v0", entry_point="rlchat_envs:_support")
