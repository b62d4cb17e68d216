"""One process that times trl 1.12's PPOTrainer, the last that trl had; see benchmarks/peers.py.

Replies to prompts of random tokens, one turn each. The policy has the adapter that ours has; the
value model is a second model that trains as a whole, as in trl's own example; the reward model is
so small that it costs nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from desk_peer import fresh_adapter, peak_memory
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    """Notes when each iteration ends."""

    def __init__(self) -> None:
        """Start."""
        self.ends = [time.perf_counter()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--reply-tokens", type=int, default=24)
    parser.add_argument("--layers", type=float, default=0.5)
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


def small_reward_model(vocabulary: int, pad: int) -> LlamaForSequenceClassification:
    """A reward model of one narrow layer with random weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_labels=1,
        pad_token_id=pad,
    )
    return LlamaForSequenceClassification(config)


def configure(options: argparse.Namespace, scratch: str) -> PPOConfig:
    """Settings of the trainer: two epochs of one minibatch, as ours."""
    return PPOConfig(
        output_dir=scratch,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        num_sample_generations=0,
        response_length=options.reply_tokens,
        total_episodes=options.prompts * options.iterations,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=options.prompts // 8,
        local_rollout_forward_batch_size=options.prompts,
        num_mini_batches=1,
        num_ppo_epochs=2,
        learning_rate=2.5e-4,
        kl_coef=0.03,
        temperature=1.0,
        disable_tqdm=True,
    )


def timed(options: argparse.Namespace, scratch: str) -> list[float]:
    """Train for some iterations; give the seconds of each."""
    dtype = getattr(torch, options.dtype)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
    value = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=1, dtype=dtype
    )
    vocabulary = policy.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    shape = (options.prompts * options.iterations, options.prompt_tokens)
    prompts = torch.randint(3, vocabulary, shape, generator=generator)
    clock = Clock()
    trainer = PPOTrainer(
        args=configure(options, scratch),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=small_reward_model(vocabulary, tokenizer.pad_token_id).to(dtype),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts.tolist()}),
        eval_dataset=Dataset.from_dict({"input_ids": prompts[:8].tolist()}),
        peft_config=fresh_adapter(policy.config.num_hidden_layers, options.layers),
        callbacks=[clock],
    )
    clock.ends = [time.perf_counter()]
    trainer.train()
    return [b - a for a, b in itertools.pairwise(clock.ends)]


def main() -> None:
    """Train for some iterations and write their times."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        seconds = timed(options, scratch)
    result = {
        "peer": "trl PPOTrainer",
        "version": trl.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "episodes": options.prompts,
        "peak_memory_gib": peak_memory(),
    }
    options.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
