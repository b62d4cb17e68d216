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
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is in local folders
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
import torch
import trl
from datasets import Dataset
from desk_peer import (
    EPOCHS,
    MAX_NEW_TOKENS,
    MAX_TOKENS,
    STEPS,
    fresh_adapter,
    parse,
    peak_memory,
    rows_a_forward,
)
from grpo_rollout import Rollout
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

GROUP = 4
"""Episodes that share a user and a goal: GRPO's num_generations."""

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
    return model, tokenizer, fresh_adapter(model.config.num_hidden_layers)


def configure(options: argparse.Namespace, iterations: int, scratch: str) -> GRPOConfig:
    """GRPO's arithmetic: N episodes are generated at once; N / 4 make an optimizer step."""
    step = options.episodes // STEPS
    rows = rows_a_forward(options.rows, step)
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


def main() -> None:
    """Train, and write the report after each iteration."""
    options = parse("trl's GRPOTrainer on rlchat/Support-v0", GROUP)
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
