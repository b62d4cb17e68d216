"""What peers at the support desk have in common: budgets, rendering, command line, memory.

Imported by scripts beside it, in environments that have no rlchat.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:  # a peer that plays no environment has no Gymnasium
    import rlchat_envs

EPOCHS = 2
"""Passes over an iteration's episodes."""
STEPS = 4
"""Optimizer steps a pass."""
MAX_NEW_TOKENS = 48
"""Budget of one turn, in tokens."""
MAX_TOKENS = 768
"""Budget of one episode; no turn is begun that could exceed it."""
LAYERS = 0.5
"""Share of the model's layers, from the top, that a fresh adapter changes."""
MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Template:
    """A tokenizer's chat template, for a conversation that is only appended to."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Find what the template writes between the agent's last word and the next message."""
        self.tokenizer = tokenizer
        mark = "\u2042"
        chat = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
        self.close = text.rpartition(mark)[2]

    def opening(self, messages: Sequence[rlchat_envs.Message]) -> str:
        """Everything before the agent speaks for the first time."""
        return self._render(messages, prompt=True)

    def following(self, messages: Sequence[rlchat_envs.Message]) -> str:
        """What comes between the agent's last word and where it speaks again.

        The end of the agent's turn is part of it; whoever sampled that leaves it out.
        """
        said = max(i for i, m in enumerate(messages) if m.role == "assistant") + 1
        before, after = self._render(messages[:said]), self._render(messages, prompt=True)
        if not (after.startswith(before) and before.endswith(self.close)):
            raise SystemExit("expected a chat template that can be appended to")
        return self.close + after[len(before) :]

    def _render(self, messages: Sequence[rlchat_envs.Message], prompt: bool = False) -> str:
        chat = [{"role": m.role, "content": m.content} for m in messages]
        return str(
            self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
        )


def fresh_adapter(layers: int, share: float = LAYERS) -> LoraConfig:
    """The adapter that rlchat has by default, on the upper ``share`` of so many layers."""
    return LoraConfig(
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=MAPS,
        layers_to_transform=list(range(layers - round(layers * share), layers)),
        task_type="CAUSAL_LM",
    )


def rows_a_forward(rows: int, step: int) -> int:
    """The most rows, up to ``rows``, of which whole forwards make an optimizer step."""
    return max(r for r in range(1, min(rows, step) + 1) if step % r == 0)


def peak_memory() -> float:
    """The most memory that this process has held at once, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def parse(description: str, multiple: int) -> argparse.Namespace:
    """Read and check the command line; episodes come in multiples of a number."""
    parser = argparse.ArgumentParser(description=description)
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
    if options.episodes < multiple or options.episodes % multiple:
        parser.error(f"expected --episodes in multiples of {multiple}; got {options.episodes}")
    if options.iterations < 1 or options.rows < 1:
        parser.error("expected --iterations and --rows of at least 1")
    return options
