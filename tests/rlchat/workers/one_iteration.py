"""What `test_distributed` compares: an iteration by one process and by two, written down by rank 0.

Run as ``one_iteration.py FOLDER``; leaves folders ``alone`` and ``together`` there. The processes
are forks of this one, with torchrun's variables, so that libraries are loaded once.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from rlchat.algorithms.advantages import estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.update import accumulate
from rlchat.distributed import Distributed
from rlchat.files import write_json
from rlchat.listener import Listener
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.statistics import RunningStd
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import play, train
from rlchat.training.run_folder import RunFolder
from rlchat.training.state import make_learner

CONFIG = TrainConfig(
    env="rlchat/Support-v0",
    policy="tiny",
    iterations=1,
    episodes=5,  # does not divide by two
    seed=7,
    evaluation=0,
    adapter=AdapterConfig(rank=4, alpha=8, dtype="float32", device="cpu"),
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=2, max_new_tokens=8, max_tokens=700),
    ppo=PPOConfig(epochs=1, minibatches=2, critic_warmup=0, token_budget=2048),
    critic=CriticConfig(width=8, epochs=3),
)


def make_policy() -> Policy:
    """The tiny network with its adapter moved by seeded noise: every gradient is there."""
    policy = Policy.create("tiny", CONFIG.adapter, seed=CONFIG.seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


def main(folder: Path, count: int) -> None:
    ranks = Distributed(cpu=True)
    assert ranks.count == count, f"{ranks.count} processes instead of {count}"
    if count > 1:
        assert torch.distributed.get_backend() == "gloo"
        assert torch.distributed.get_world_size() == count
    assert torch.get_num_threads() == 1
    policy = make_policy()
    learner = make_learner(CONFIG, policy, ranks)
    own = play(CONFIG, policy, EnvPool(CONFIG.env_config), ranks, 0, Listener())
    everyone = ranks.gather([(t.index, t.seed, t.ids, t.action_mask, t.parts) for t in own])
    annotated = annotate(policy, learner.critic, pack(own), CONFIG.ppo.token_budget)
    scale = RunningStd()
    scale.add([sum(parts.values()) for *_, turns in everyone for parts in turns])
    turns = [(i, len(parts)) for i, *_, parts in everyone]
    settings = estimator_settings(CONFIG.ppo, CONFIG.critic)
    estimated = estimate(annotated, settings, 0.1, scale, turns, ranks.sum)
    actions = float(ranks.sum(annotated.batch.action_mask.sum().double()))
    accumulate(learner, estimated, torch.arange(len(own)), CONFIG.ppo, actions)
    ranks.sum_gradients(policy.parameters())
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in policy.named_parameters()
    }
    if ranks.main:
        save_file(gradients, folder / "gradients.safetensors")
        kept = [[i, seed, ids, mask] for i, seed, ids, mask, _ in sorted(everyone)]
        own_indices = [t.index for t in own]
        write_json(
            folder / "episodes.json", {"count": ranks.count, "own": own_indices, "all": kept}
        )
    ranks.wait()
    train(CONFIG, make_policy(), RunFolder(folder / "run"), ranks)
    ranks.end()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def fork(folder: Path, count: int) -> bool:
    """Let so many processes do it; tell whether all of them could."""
    folder.mkdir()
    launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    children = []
    for rank in map(str, range(count)):
        if child := os.fork():
            children.append(child)
            continue
        if count > 1:
            world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
            os.environ |= launched | world | {"RANK": rank, "LOCAL_RANK": rank}
        try:
            main(folder, count)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    states = [os.waitpid(child, 0)[1] for child in children]
    return not any(states)


if __name__ == "__main__":
    done = [fork(Path(sys.argv[1]) / name, n) for name, n in (("alone", 1), ("together", 2))]
    sys.exit(not all(done))
