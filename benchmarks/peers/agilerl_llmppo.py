"""Train on rlchat/Support-v0 with AgileRL's LLMPPO, to be timed against rlchat.

    python benchmarks/peers/agilerl_llmppo.py --model MODEL --out FILE.json

A peer of its own: AgileRL's agent, its rollout collector and the environment; no other part of
rlchat. Conversations are played as AgileRL plays without vLLM: its collector steps all of them
turn by turn, and every turn of every conversation is one ``generate`` of its own, read from the
start again. What was sampled stays as it was sampled, and only what is appended is tokenized; the
environment's text goes in rendered by the chat template, which is the harness's
``apply_chat_template=False``. Then the agent's ``learn``: turns are actions, actor and critic are
two LoRA adapters on one frozen model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is in local folders
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gymnasium as gym
import peft
import torch
import transformers
from agilerl.algorithms import LLMPPO
from agilerl.llm_envs import RolloutCollector, RolloutHarness
from agilerl.rollouts.on_policy import collate_llm_rollouts, collect_rollouts_llm
from agilerl.utils.llm_utils import create_model_from_name_or_path
from desk_peer import (
    EPOCHS,
    MAX_NEW_TOKENS,
    MAX_TOKENS,
    STEPS,
    Template,
    fresh_adapter,
    parse,
    peak_memory,
    rows_a_forward,
)
from peft import LoraConfig
from transformers import AutoTokenizer, PreTrainedTokenizerBase

MAX_TURNS = 16
"""Turns of one episode; the environment's own limit."""

NOTES = [
    "rollout_seconds is the time inside AgileRL's collect_rollouts_llm: generation, environment, "
    "tokenizing.",
    "learn_seconds is the rest of an iteration: padding, and LLMPPO.learn with its pass for "
    "reference, old log-probabilities and values, 2 epochs of forward and backward, the optimizer.",
    "tokens counts the tokens of an iteration's episodes, prompts and users' replies included, "
    "no padding, each token once.",
    "Scores are the environment's own, without a scorer of manners and without a penalty for a "
    "turn that ran out of tokens: rlchat trains on both besides.",
    "Without vLLM AgileRL generates for one conversation at a time; hf_generate_chunk_size does "
    "not change that.",
    "AgileRL pads an iteration's episodes to the longest of all.",
    "Actor and critic are two adapters on one frozen model, with a linear value head; a row goes "
    "through the model twice, in one batch: AgileRL's choice off CUDA. The loss is the sum.",
    "beta weighs AgileRL's KL (k3, in the loss, against whitened advantages), not a reward.",
    "lr_critic is set to lr_actor. Clipping, gamma, lambda, advantages, value loss and optimizer "
    "are AgileRL's defaults; the ratio and the advantage are of a whole turn.",
    "Set otherwise than by default, for the same policy and sampling: float32 (bfloat16), top_k 0 "
    "(50). For speed on a CPU: gradient_checkpointing off (on). For memory: use_liger_loss off "
    "(on), as AgileRL's own warning advises for turns; it is as fast and the same loss.",
    "Sequence packing would need FlexAttention or FlashAttention with gradients: not on a CPU. "
    "torch_compiler is off, as by default: on one thread its first update was not through after "
    "five minutes.",
    "On Linux AgileRL's language models need liger-kernel installed, and then put its Triton "
    "kernels into the model, which do not run on a CPU. The model is marked as patched already, "
    "with the mark that AgileRL sets itself, so it keeps the stock modules.",
    "With --adapter actor, reference and critic start from that adapter, else from the base model.",
    "With --adapter its file is read by AgileRL's update_existing_adapter.",
]


class Desk:
    """The environment as AgileRL's harness drives it: rendered text out, an answer in."""

    system_prompt = ""  # it is part of the text

    def __init__(self, template: Template):
        """Make the environment."""
        self.template = template
        self.env: gym.Env[str, str] = gym.make(
            "rlchat/Support-v0", split="train", disable_env_checker=True
        )
        self.score, self.success = 0.0, False

    def reset(self, seed: int | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode; give the prompt."""
        self.score, self.success = 0.0, False
        _, info = self.env.reset(seed=seed)
        return self.template.opening(info["conversation"]), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Say a turn, and give what is appended to the conversation."""
        _, reward, terminated, truncated, info = self.env.step(action.strip())
        self.score += float(reward)
        self.success = bool(info["success"])
        over = terminated or truncated
        text = "" if over else self.template.following(info["conversation"])
        return text, float(reward), terminated, truncated, {}

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class Rollout:
    """Plays an iteration's episodes side by side with AgileRL's collector."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, episodes: int, seed: int):
        """Prepare so many environments; ``seed`` decides which users they meet."""
        self.tokenizer, self.template = tokenizer, Template(tokenizer)
        self.episodes, self.seed = episodes, seed
        self.desks: list[Desk] = []
        self.collector = RolloutCollector(self._harness, episodes, group_size=1)

    def __call__(self, agent: LLMPPO) -> Any:
        """Play; give the batch that ``learn`` takes."""
        ids, masks, turns, rewards, _, self.seed, logprobs, _ = collect_rollouts_llm(
            agent=agent,
            env=self.collector,
            n_steps=MAX_TURNS,
            batch_size=self.episodes,
            group_seed=self.seed,
        )
        return collate_llm_rollouts(ids, masks, turns, rewards, logprobs, group_size=1)

    def _harness(self) -> RolloutHarness:
        self.desks.append(Desk(self.template))
        return RolloutHarness.local(
            self.desks[-1],
            self.tokenizer,
            max_turns=MAX_TURNS,
            apply_chat_template=False,
            max_model_len=MAX_TOKENS - MAX_NEW_TOKENS + 1,  # it wants room for one token, not 48
        )


def load(options: argparse.Namespace) -> tuple[Any, LoraConfig]:
    """The model under a value head, and the configuration of its adapters."""
    model: Any = create_model_from_name_or_path(
        str(options.model), {"torch_dtype": torch.float32}, add_value_head=True
    )
    model.pretrained_model._agilerl_liger_patched = True  # see the notes: Triton needs a GPU
    if options.adapter is not None:
        return model, LoraConfig.from_pretrained(str(options.adapter))
    return model, fresh_adapter(model.config.num_hidden_layers)


def make_agent(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> LLMPPO:
    """AgileRL's agent: N episodes are collected at once; N / 4 make an optimizer step."""
    model, adapter = load(options)
    step = options.episodes // STEPS
    agent = LLMPPO(
        pad_token_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        actor_network=model,
        lora_config=adapter,
        batch_size=options.episodes,
        mini_batch_size=step,
        micro_batch_size_per_gpu=rows_a_forward(options.rows, step),
        update_epochs=EPOCHS,
        beta=0.03,
        lr_actor=2.5e-4,
        lr_critic=2.5e-4,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_output_tokens=MAX_NEW_TOKENS,
        max_model_len=MAX_TOKENS,
        gradient_checkpointing=False,
        use_liger_loss=False,
        seed=options.seed,
        device="cpu",
    )
    if options.adapter is not None:
        start_from(agent, options.adapter)
    return agent


def start_from(agent: LLMPPO, adapter: Path) -> None:
    """Give every adapter of the agent the weights in a folder, laid out as AgileRL wants it."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in agent.selected_adapters:
            shutil.copytree(adapter, Path(scratch) / name)
            agent.update_existing_adapter(scratch, name)
    agent.use_adapter("actor")


def settings(agent: LLMPPO, options: argparse.Namespace) -> dict[str, Any]:
    """What was set, and what AgileRL chose."""
    model: Any = agent.actor
    names = (
        "batch_size mini_batch_size micro_batch_size_per_gpu gradient_accumulation_steps "
        "update_epochs lr_actor lr_critic max_grad_norm share_grad_clip beta kl_clamp vf_coef "
        "clip_coef gamma gae_lambda critic_warmup_steps temperature top_k top_p min_p "
        "repetition_penalty advantage_granularity importance_sampling_level turn_level_clip "
        "turn_ratio_pooling turn_value_reduction whiten_advantages use_liger_loss "
        "use_separate_reference_adapter use_sequence_packing max_output_tokens max_model_len "
        "hf_generate_chunk_size gradient_checkpointing torch_compiler seed"
    )
    adapter = agent.lora_config
    return {
        **{name: getattr(agent, name) for name in names.split()},
        "episodes": options.episodes,
        "optimizer_steps_an_epoch": STEPS,
        "max_tokens_an_episode": MAX_TOKENS,
        "max_turns_an_episode": MAX_TURNS,
        "adapter": "fresh" if options.adapter is None else "given",
        "lora_r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "lora_maps": sorted(adapter.target_modules),
        "lora_layers": adapter.layers_to_transform,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "dtype": str(next(model.parameters()).dtype),
        "attention": model.config._attn_implementation,
        "threads": torch.get_num_threads(),
    }


def iterate(agent: LLMPPO, rollout: Rollout) -> dict[str, Any]:
    """Play and learn once; give the row of it."""
    begun = time.perf_counter()
    batch = rollout(agent)
    played = time.perf_counter()
    agent.learn(batch.experiences(), turn_ids=batch.turn_ids, sampling_logps=batch.sampling_logps)
    done = time.perf_counter()
    desks = rollout.desks
    return {
        "seconds": round(done - begun, 3),
        "rollout_seconds": round(played - begun, 3),
        "learn_seconds": round(done - played, 3),
        "episodes": len(desks),
        "success": sum(d.success for d in desks) / len(desks),
        "mean_score": sum(d.score for d in desks) / len(desks),
        "tokens": int(batch.token_lengths.sum()),
    }


def main() -> None:
    """Train, and write the report after each iteration."""
    options = parse("AgileRL's LLMPPO on rlchat/Support-v0", STEPS)
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()  # it would warn at every generate
    transformers.set_seed(options.seed)  # AgileRL seeds torch only when distributed
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    agent = make_agent(options, tokenizer)
    rollout = Rollout(tokenizer, options.episodes, options.seed)
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {
        "peer": "AgileRL LLMPPO",
        "version": version("agilerl"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "iterations": rows,
        "peak_memory_gib": 0.0,
        "settings": settings(agent, options),
        "notes": NOTES,
    }
    begun = time.perf_counter()
    while not rows or (
        time.perf_counter() - begun < options.seconds
        if options.seconds
        else len(rows) < options.iterations
    ):
        rows.append(iterate(agent, rollout))
        report["peak_memory_gib"] = round(peak_memory(), 3)
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"iteration {len(rows)}: {json.dumps(rows[-1])}", flush=True)
    rollout.collector.close()


if __name__ == "__main__":
    main()
