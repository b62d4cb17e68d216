"""A run as its last iteration left it: policy, reference, critic, reward and scale of scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.inference.model_agent import ModelAgent
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_hash, read_weights
from rlchat.models.adapters import POLICY
from rlchat.models.policy import Policy
from rlchat.rollout.environment import EnvConfig
from rlchat.training.config import TrainConfig
from rlchat.training.pipeline import reference_policy
from rlchat.training.run_folder import RunFolder
from rlchat.training.state import State


@dataclass(frozen=True)
class OpenedRun:
    """A run that is looked into; its policy is the adapter that the run folder has now.

    Attributes:
        config: the run's settings.
        run: its folder, of which nothing is changed.
        policy: with the warm start as its reference.
        state: critic, reward, scale of scores and price of KL, as after the last iteration.
        ranks: this process alone.
    """

    config: TrainConfig
    run: RunFolder
    policy: Policy
    state: State
    ranks: Distributed

    @property
    def agent(self) -> ModelAgent:
        """The agent that the run has trained."""
        version = adapter_hash(self.run.adapter)
        return ModelAgent.of(self.policy, POLICY, str(self.run.folder), version)

    def env_of(self, name: str) -> EnvConfig:
        """Settings of the environment of an episode: of the run's one, or one of several by name.

        Raises:
            UserError: the run has none of that name.
        """
        mixture = self.config.mixture
        if not name:
            return mixture.envs[0]
        if name not in mixture.names:
            raise UserError(
                f"expected an environment out of {', '.join(mixture.names)}; the episode is of "
                f"{name}; restore the run's config.json"
            )
        return mixture.envs[mixture.names.index(name)]


def open_run(config: TrainConfig, run: RunFolder, listener: Listener | None = None) -> OpenedRun:
    """Load what a run has trained, and by what it was rewarded.

    Args:
        config: the settings that the run has recorded.
        run: its folder.
        listener: told what takes long.

    Raises:
        UserError: no iteration is finished, or something of it is missing or broken.
    """
    run.read_config()
    if not run.checkpoint.is_dir() or not run.adapter.is_dir():
        raise UserError(
            f"expected a run with a finished iteration; {run.folder} has no checkpoint and adapter "
            f"of one; finish it with rlchat train --config {run.folder} --run {run.folder} --resume"
        )
    ranks = Distributed(cpu=config.adapter.device == "cpu" or not torch.cuda.is_available())
    policy = reference_policy(config, run, listener or Listener())
    state = State.begin(config, policy, ranks)
    state.restore(run)
    # Not always that of the checkpoint: the reward monitor may have gone back to the best one, and
    # ratings may have changed it since.
    read_weights(policy.model, run.adapter, POLICY)
    return OpenedRun(config, run, policy, state, ranks)
