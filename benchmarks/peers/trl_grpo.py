"""Train on rlchat/Support-v0 with trl's GRPOTrainer, to be timed against rlchat.

    python benchmarks/peers/trl_grpo.py --model MODEL --out FILE.json

A peer of its own: trl's trainer, a ``rollout_func`` and the environment; no other part of rlchat.
Conversations are played as trl plays without vLLM: every turn is one ``model.generate`` over all
conversations that still run, left-padded and read from the start again. What was sampled stays as
it was sampled, and only what is appended is tokenized. Episodes in a group share the
environment's seed, so the same user with the same goal; there is no critic.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is in local folders
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import gymnasium as gym
import numpy as np
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

import rlchat_envs

GROUP = 4
"""Episodes that share a user and a goal: GRPO's num_generations."""
EPOCHS = 2
"""Passes over an iteration's episodes: GRPO's num_iterations."""
STEPS = 4
"""Optimizer steps a pass."""
MAX_NEW_TOKENS = 48
"""Budget of one turn, in tokens."""
MAX_TOKENS = 768
"""Budget of one episode; no turn is begun that could exceed it."""
LAYERS = 0.5
"""Share of the model's layers, from the top, that a fresh adapter changes."""
MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

NOTES = [
    "rollout_seconds is the time inside rollout_func: generation, environment, tokenizing.",
    "learn_seconds is the rest of an iteration: the passes for the old and the reference "
    "log-probabilities, 2 epochs of forward and backward, the optimizer, trl's bookkeeping.",
    "tokens counts the tokens of an iteration's episodes, prompts and users' replies included, "
    "no padding, each token once.",
    "Scores are the environment's own, without a scorer of manners and without a penalty for a "
    "turn that ran out of tokens: rlchat trains on both besides.",
    "Without vLLM trl computes old log-probabilities itself and ignores those that rollout_func "
    "returns; what rollout_func spends on them is a log-sum-exp a token.",
    "beta weighs trl's KL (k3, in the loss, against unit-variance advantages), not a reward.",
    "trl pads an iteration's episodes to the longest prompt and the longest completion of all.",
    "Without Triton trl's output head reads every position, prompts and padding too.",
    "With --adapter the reference is the adapter as it was at the start, else the base model.",
    "Clipping, advantages and loss are trl's defaults.",
]


@dataclass
class Episode:
    """One conversation: its tokens, and what the environment said of it."""

    env: gym.Env[str, str]
    conversation: tuple[rlchat_envs.Message, ...]
    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    score: float = 0.0
    success: bool = False
    over: bool = False

    @property
    def ids(self) -> list[int]:
        """Everything that was said so far, up to where the agent speaks."""
        return self.prompt + self.completion


class Template:
    """A tokenizer's chat template, for a conversation that is only appended to."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Find what the template writes between the agent's last word and the next message."""
        self.tokenizer = tokenizer
        mark = "\u2042"
        chat = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
        self.close = text.rpartition(mark)[2]

    def opening(self, messages: Sequence[rlchat_envs.Message]) -> list[int]:
        """Tokens of everything before the agent speaks for the first time."""
        return self._encode(self._render(messages, prompt=True))

    def following(self, messages: Sequence[rlchat_envs.Message], last: int) -> list[int]:
        """Tokens from the agent's last sampled token to where it speaks again.

        Args:
            messages: the whole conversation.
            last: the last sampled token; the end of the turn is written here unless it is that.
        """
        said = max(i for i, m in enumerate(messages) if m.role == "assistant") + 1
        before, after = self._render(messages[:said]), self._render(messages, prompt=True)
        if not (after.startswith(before) and before.endswith(self.close)):
            raise SystemExit("expected a chat template that can be appended to")
        ids = self._encode(self.close + after[len(before) :])
        return ids[1:] if ids[0] == last == self.tokenizer.eos_token_id else ids

    def text(self, ids: Sequence[int]) -> str:
        """What was said, without special tokens and outer white space."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _render(self, messages: Sequence[rlchat_envs.Message], prompt: bool = False) -> str:
        chat = [{"role": m.role, "content": m.content} for m in messages]
        return str(
            self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
        )

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


class Rollout:
    """Play conversations side by side, turn by turn; trl's ``rollout_func``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Start with no environments; they are made when first needed, and kept."""
        self.template = Template(tokenizer)
        self.end, self.pad = int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)
        self.envs: list[gym.Env[str, str]] = []
        self.seconds = 0.0
        self.episodes: list[Episode] = []

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Play an episode for each prompt, which is nothing but the environment's seed."""
        begun = time.perf_counter()
        while len(self.envs) < len(prompts):
            self.envs.append(gym.make("rlchat/Support-v0", split="train", disable_env_checker=True))
        self.episodes = [self._begin(e, int(p)) for e, p in zip(self.envs, prompts, strict=False)]
        running = self.episodes
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                generation_kwargs=trainer.generation_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            while running:
                replies = self._sample(model, trainer, [e.ids for e in running])
                for episode, (ids, logprobs) in zip(running, replies, strict=True):
                    self._play(episode, ids, logprobs)
                running = [e for e in running if not e.over]
        self.seconds = time.perf_counter() - begun
        return {
            "prompt_ids": [e.prompt for e in self.episodes],
            "completion_ids": [e.completion for e in self.episodes],
            "logprobs": [e.logprobs for e in self.episodes],
            "env_mask": [e.sampled for e in self.episodes],
            "score": [e.score for e in self.episodes],
        }

    def _begin(self, env: gym.Env[str, str], seed: int) -> Episode:
        _, info = env.reset(seed=seed)
        return Episode(env, info["conversation"], self.template.opening(info["conversation"]))

    def _sample(
        self, model: Any, trainer: GRPOTrainer, rows: list[list[int]]
    ) -> list[tuple[list[int], list[float]]]:
        """Sample a turn for every row; give its tokens, end included, and their log-probs."""
        width = max(len(row) for row in rows)
        ids = torch.tensor([[self.pad] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        config = copy.deepcopy(trainer.generation_config)
        config.return_dict_in_generate = True
        config.output_logits = True  # temperature 1, nothing cut off: these were sampled from
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
        )
        said = out.sequences[:, width:]
        logprobs = torch.stack(
            [
                logits.gather(1, said[:, i : i + 1]).squeeze(1) - logits.logsumexp(1)
                for i, logits in enumerate(out.logits)
            ],
            dim=1,
        )
        replies = []
        for reply, row in zip(said.tolist(), logprobs.tolist(), strict=True):
            length = reply.index(self.end) + 1 if self.end in reply else len(reply)
            replies.append((reply[:length], row[:length]))
        return replies

    def _play(self, episode: Episode, ids: list[int], logprobs: list[float]) -> None:
        """Say a turn, hear what follows, and write down both."""
        episode.completion += ids
        episode.logprobs += logprobs
        episode.sampled += [1] * len(ids)
        _, reward, terminated, truncated, info = episode.env.step(self.template.text(ids))
        episode.score += float(reward)
        episode.success = bool(info["success"])
        episode.conversation = info["conversation"]
        episode.over = terminated or truncated
        if episode.over:
            return
        following = self.template.following(episode.conversation, ids[-1])
        if len(episode.ids) + len(following) > MAX_TOKENS - MAX_NEW_TOKENS:
            episode.over = True
            return
        episode.completion += following
        episode.logprobs += [0.0] * len(following)
        episode.sampled += [0] * len(following)


class Clock(TrainerCallback):
    """Writes a row after each iteration, and stops when the time is up."""

    def __init__(self, rollout: Rollout, report: dict[str, Any], out: Path, seconds: float | None):
        """Watch a rollout; write into ``report``, and that to ``out``."""
        self.rollout, self.report, self.out, self.seconds = rollout, report, out, seconds
        self.begun = self.last = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self.begun = self.last = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count an iteration's last optimizer step."""
        if state.global_step % (EPOCHS * STEPS):
            return
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        episodes = self.rollout.episodes
        row = {
            "seconds": round(seconds, 3),
            "rollout_seconds": round(self.rollout.seconds, 3),
            "learn_seconds": round(seconds - self.rollout.seconds, 3),
            "episodes": len(episodes),
            "success": sum(e.success for e in episodes) / len(episodes),
            "mean_score": sum(e.score for e in episodes) / len(episodes),
            "tokens": sum(len(e.ids) for e in episodes),
        }
        self.report["iterations"].append(row)
        self.report["peak_memory_gib"] = round(peak_memory(), 3)
        self.out.write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")
        print(f"iteration {len(self.report['iterations'])}: {json.dumps(row)}", flush=True)
        if self.seconds is not None and now - self.begun >= self.seconds:
            control.should_training_stop = True


def passed_on(completions: list[Any], score: list[float | None], **_: Any) -> list[float | None]:
    """The reward: the episode's total score, as ``rollout_func`` gave it."""
    return score


def peak_memory() -> float:
    """The most memory that this process has held at once, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def seeds(seed: int, iterations: int, groups: int) -> list[str]:
    """Environment seeds of all groups of all iterations, as prompts."""
    state = np.random.SeedSequence(seed).generate_state(iterations * groups)
    return [str(int(s)) for s in state]


def load(options: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase, LoraConfig | None]:
    """The model, its tokenizer, and the adapter's configuration if trl is to make one."""
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    if options.adapter is not None:
        return (
            PeftModel.from_pretrained(model, str(options.adapter), is_trainable=True),
            tokenizer,
            None,
        )
    layers = model.config.num_hidden_layers
    adapter = LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=MAPS,
        layers_to_transform=list(range(layers - round(layers * LAYERS), layers)),
        task_type="CAUSAL_LM",
    )
    return model, tokenizer, adapter


def configure(options: argparse.Namespace, iterations: int, scratch: str) -> GRPOConfig:
    """GRPO's arithmetic: N episodes are generated at once; N / 4 make an optimizer step."""
    step = options.episodes // STEPS
    rows = max(r for r in range(1, min(options.rows, step) + 1) if step % r == 0)
    return GRPOConfig(
        output_dir=scratch,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=step // rows,
        generation_batch_size=options.episodes,  # so steps_per_generation is episodes / rows
        num_generations=GROUP,
        num_iterations=EPOCHS,
        max_steps=iterations * EPOCHS * STEPS,
        max_completion_length=MAX_NEW_TOKENS,  # of one generate, so of one turn
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        beta=0.03,
        learning_rate=2.5e-4,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=options.seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def settings(trainer: GRPOTrainer, options: argparse.Namespace) -> dict[str, Any]:
    """What was set, and what trl chose."""
    model: Any = trainer.model
    args, adapter = trainer.args, model.peft_config["default"]
    names = (
        "per_device_train_batch_size gradient_accumulation_steps steps_per_generation "
        "generation_batch_size num_generations num_iterations learning_rate lr_scheduler_type "
        "optim weight_decay max_grad_norm beta epsilon epsilon_high delta loss_type scale_rewards "
        "importance_sampling_level temperature top_k top_p max_completion_length "
        "gradient_checkpointing bf16 use_cpu seed"
    )
    chosen = {name: getattr(args, name) for name in names.split()}
    chosen = {k: getattr(v, "value", v) for k, v in chosen.items()}
    return {
        **chosen,
        "episodes": options.episodes,
        "optimizer_steps_an_epoch": STEPS,
        "max_tokens_an_episode": MAX_TOKENS,
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


def parse() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(description="trl's GRPOTrainer on rlchat/Support-v0")
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of a causal LM and its tokenizer")
    add("--adapter", type=Path, help="PEFT LoRA adapter to start from; else a fresh one")
    add("--episodes", type=int, default=32, help="episodes an iteration")
    add("--iterations", type=int, default=2, help="how many; with --seconds it is not looked at")
    add("--seconds", type=float, help="begin no iteration after so many seconds of training")
    add("--rows", type=int, default=4, help="episodes in one forward of the update, at most")
    add("--threads", type=int, help="of torch; else its own choice")
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    if options.episodes < GROUP or options.episodes % GROUP:
        parser.error(f"expected --episodes in whole groups of {GROUP}; got {options.episodes}")
    if options.iterations < 1 or options.rows < 1:
        parser.error("expected --iterations and --rows of at least 1")
    return options


def main() -> None:
    """Train, and write the report after each iteration."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    iterations = options.iterations if options.seconds is None else 10_000
    model, tokenizer, adapter = load(options)
    rollout = Rollout(tokenizer)
    report: dict[str, Any] = {
        "peer": "trl GRPOTrainer",
        "version": trl.__version__,
        "torch": torch.__version__,
        "iterations": [],
        "peak_memory_gib": 0.0,
        "settings": {},
        "notes": NOTES,
    }
    with tempfile.TemporaryDirectory() as scratch:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=passed_on,
            args=configure(options, iterations, scratch),
            train_dataset=Dataset.from_dict(
                {"prompt": seeds(options.seed, iterations, options.episodes // GROUP)}
            ),
            processing_class=tokenizer,
            callbacks=[Clock(rollout, report, options.out, options.seconds)],
            peft_config=adapter,
            rollout_func=rollout,
        )
        report["settings"] = settings(trainer, options)
        trainer.train()


if __name__ == "__main__":
    main()
