"""One process that times our own iterations on a peer's terms; see benchmarks/peers.py.

``--world prompts`` replies once to prompts of random tokens, as trl's PPOTrainer does; ``--world
support`` trains on conversations at the support desk, for some iterations or some seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rlchat.algorithms.advantages import estimate, estimator_settings
from rlchat.algorithms.annotate import annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import PPOConfig
from rlchat.algorithms.update import fit_critic, update_policy
from rlchat.distributed import Distributed
from rlchat.inference.decoder import Decoder
from rlchat.models.config import AdapterConfig
from rlchat.models.device import peak_memory
from rlchat.models.policy import Policy
from rlchat.rollout.seeding import episode_seeds
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd
from rlchat.training.config import TrainConfig
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat.training.state import make_learner


def reply_to_prompts(options: argparse.Namespace, policy: Policy) -> dict[str, Any]:
    """Iterations of one reply a prompt, with the same functions that `rlchat train` calls."""
    config = TrainConfig(
        episodes=options.episodes, ppo=PPOConfig(minibatches=1, epochs=2), run=Path("unused")
    )
    learner, scale, seconds = make_learner(config, policy, Distributed(cpu=True)), RunningStd(), []
    for iteration in range(options.iterations):
        begun = time.perf_counter()
        slots = options.prompt_tokens + options.reply_tokens
        # As in `train`: in float32 the first iteration compares sampler and forward.
        exact = iteration > 0 and policy.dtype == torch.float32
        decoder = Decoder(
            policy.generation_model(), options.episodes, slots, (), 1.0, policy.shared_layers, exact
        )
        played, noise = [], {}
        for i in range(options.episodes):
            noise[i] = episode_seeds(0, iteration, i)[1]
            words = noise[i].integers(3, policy.hf.config.vocab_size, options.prompt_tokens)
            played.append(Trajectory(i, i, [int(w) for w in words], terminated=True))
        said = decoder.generate(
            {t.index: t.ids for t in played},
            {i: n.random for i, n in noise.items()},
            options.reply_tokens,
        )
        for t in played:
            t.privileged.append({})
            t.act(said[t.index].ids, said[t.index].logprobs)
            t.parts.append({"reward": float(noise[t.index].normal())})
            t.cached_states = decoder.cached_states(t.index) if policy.shared_layers else None
            t.sampled_states = decoder.sampled_states(t.index)
        del decoder
        policy.free_merged()
        scale.add([t.score for t in played])
        annotated = annotate(policy, learner.critic, pack(played), config.ppo.token_budget)
        settings = estimator_settings(config.ppo, config.critic)
        scores = [(t.index, t.score) for t in played]
        estimated = estimate(annotated, settings, config.ppo.beta, scale, scores)
        fit_critic(learner, estimated)
        update_policy(learner, estimated, config.ppo, options.episodes, (0, iteration))
        seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds}


def train_at_the_desk(options: argparse.Namespace, policy: Policy) -> dict[str, Any]:
    """Iterations of `rlchat train`."""
    with tempfile.TemporaryDirectory() as scratch:
        run = RunFolder(Path(scratch) / "run")
        run.folder.mkdir()
        config = TrainConfig(run=run.folder, episodes=options.episodes, iterations=0)
        begun = time.perf_counter()
        rows: list[dict[str, Any]] = []
        while len(rows) < options.iterations or time.perf_counter() - begun < options.seconds:
            resume = bool(rows)
            train(
                replace(config, iterations=len(rows) + 1, resume=resume),
                policy,
                run,
                Distributed(cpu=True),
            )
            rows = read_metrics(run.metrics)
    return {
        "seconds": [row["seconds"] for row in rows],
        "success": [row["success"] for row in rows],
        "tokens": [row["tokens"] for row in rows],
    }


def main() -> None:
    """Time some iterations and write their times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--world", choices=("prompts", "support"), default="prompts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--reply-tokens", type=int, default=24)
    parser.add_argument("--layers", type=float, default=0.5)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    config = AdapterConfig(layers=options.layers, dtype=options.dtype)
    policy = Policy.create(options.model, config, adapter=options.adapter)
    play = reply_to_prompts if options.world == "prompts" else train_at_the_desk
    result = {
        "peer": "rlchat",
        "torch": torch.__version__,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "episodes": options.episodes,
        **play(options, policy),
        "peak_memory_gib": peak_memory(),
    }
    options.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
