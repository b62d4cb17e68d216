"""Dialogue agents that learn by reinforcement from the user they talk to.

What this package offers is listed in ``__all__`` and loaded when it is first used, so that
``import rlchat`` takes no time and loads no torch.

Example:
    >>> import rlchat
    >>> env = rlchat.make_env("rlchat/Support-v0", split="dev")
    >>> result = rlchat.evaluate("expert", env, episodes=3)
    >>> result.metrics["success"].mean
    1.0
"""

import os as _os
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from rlchat.processors import choose_threads as _choose_threads

# Before torch is loaded, whichever way rlchat is entered: command, script, launcher or import.
_choose_threads(_os.environ)

if _TYPE_CHECKING:
    from rlchat.algorithms.config import PPOConfig
    from rlchat.api import evaluate, make_env
    from rlchat.errors import RunError, UserError
    from rlchat.evaluation.evaluate import EvaluationResult
    from rlchat.inference.agents import Agent, Reply
    from rlchat.inference.load_agent import load_agent
    from rlchat.rewards.config import RewardConfig
    from rlchat.rewards.loading import load_scorer as load_reward_model
    from rlchat.rewards.training import train_reward_model
    from rlchat.rollout.config import RolloutConfig
    from rlchat.rollout.environment import EnvConfig
    from rlchat.rollout.episodes import rollout
    from rlchat.rollout.trajectory import Episode, Trajectory
    from rlchat.serving.session import ChatSession
    from rlchat.training.config import SFTConfig, TrainConfig
    from rlchat.training.pipeline import sft
    from rlchat.training.pipeline import train_agent as train
    from rlchat_envs import Message

__version__: str

__all__ = [
    "Agent",
    "ChatSession",
    "EnvConfig",
    "Episode",
    "EvaluationResult",
    "Message",
    "PPOConfig",
    "Reply",
    "RewardConfig",
    "RolloutConfig",
    "RunError",
    "SFTConfig",
    "TrainConfig",
    "Trajectory",
    "UserError",
    "__version__",
    "evaluate",
    "load_agent",
    "load_reward_model",
    "make_env",
    "rollout",
    "sft",
    "train",
    "train_reward_model",
]

_HOMES = {
    "Agent": "rlchat.inference.agents:Agent",
    "ChatSession": "rlchat.serving.session:ChatSession",
    "EnvConfig": "rlchat.rollout.environment:EnvConfig",
    "Episode": "rlchat.rollout.trajectory:Episode",
    "EvaluationResult": "rlchat.evaluation.evaluate:EvaluationResult",
    "Message": "rlchat_envs:Message",
    "PPOConfig": "rlchat.algorithms.config:PPOConfig",
    "Reply": "rlchat.inference.agents:Reply",
    "RewardConfig": "rlchat.rewards.config:RewardConfig",
    "RolloutConfig": "rlchat.rollout.config:RolloutConfig",
    "RunError": "rlchat.errors:RunError",
    "SFTConfig": "rlchat.training.config:SFTConfig",
    "TrainConfig": "rlchat.training.config:TrainConfig",
    "Trajectory": "rlchat.rollout.trajectory:Trajectory",
    "UserError": "rlchat.errors:UserError",
    "evaluate": "rlchat.api:evaluate",
    "load_agent": "rlchat.inference.load_agent:load_agent",
    "load_reward_model": "rlchat.rewards.loading:load_scorer",
    "make_env": "rlchat.api:make_env",
    "sft": "rlchat.training.pipeline:sft",
    "train": "rlchat.training.pipeline:train_agent",
    "train_reward_model": "rlchat.rewards.training:train_reward_model",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        found: object = version("rlchat")
    elif name == "rollout":  # a folder too; see there how it is called
        return _import_module("rlchat.rollout")
    elif name in _HOMES:
        module, _, own = _HOMES[name].partition(":")
        found = getattr(_import_module(module), own)
    else:
        raise AttributeError(f"module 'rlchat' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Public names, and what is loaded."""
    return sorted({*globals(), *__all__})
