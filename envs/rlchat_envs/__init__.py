"""rlchat's text worlds for Gymnasium. Importing this registers them; it never loads torch."""

from __future__ import annotations

from functools import partial
from importlib import import_module

from rlchat_envs.core.env import DialogueEnv
from rlchat_envs.core.messages import Conversation, Message, as_text, declare, declared
from rlchat_envs.core.protocols import SPLITS, Case, Reaction, Scenario, Scorer, ScriptedAgent
from rlchat_envs.core.spaces import Utterance
from rlchat_envs.core.tools import Call, Tool, read_message, write_call
from rlchat_envs.registration import Maker, register

__all__ = [
    "SPLITS",
    "Call",
    "Case",
    "Conversation",
    "DialogueEnv",
    "Maker",
    "Message",
    "Reaction",
    "Scenario",
    "Scorer",
    "ScriptedAgent",
    "Tool",
    "Utterance",
    "as_text",
    "declare",
    "declared",
    "read_message",
    "register",
    "write_call",
]

_OURS = {
    "rlchat/Finance-v0": "finance:FinanceScenario",
    "rlchat/FinanceFacts-v0": "finance:FinanceFactsScenario",
    "rlchat/GuessNumber-v0": "games:GuessNumberScenario",
    "rlchat/Medical-v0": "medical:MedicalScenario",
    "rlchat/Support-v0": "support:SupportScenario",
    "rlchat/SupportHard-v0": "support:SupportHardScenario",
    "rlchat/SupportTools-v0": "support:SupportToolsScenario",
    "rlchat/Tutoring-v0": "tutoring:TutoringScenario",
    "rlchat/TwentyQuestions-v0": "games:TwentyQuestionsScenario",
}


def _scenario(place: str) -> Scenario:
    module, _, name = place.partition(":")
    scenario: Scenario = getattr(import_module(f"rlchat_envs.scenarios.{module}"), name)()
    return scenario


for _id, _place in _OURS.items():
    register(_id, partial(_scenario, _place))
