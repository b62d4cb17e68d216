"""Time rollouts and updates against the way most trainers do it, and against this machine's limit.

    make bench

Everything that is compared runs in this one process, one after the other, in the same precision:
medians over repeats. Measure alone: on a small machine a second busy process costs far more than
half. The arithmetic of a floor is printed beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import floor
import growth
import talk
import torch
import transformers
import tyro
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

from rlchat import files
from rlchat.batch import annotate, estimate, pack
from rlchat.cli import quiet
from rlchat.config import PPOConfig
from rlchat.critic import Critic, CriticConfig
from rlchat.decoding import Decoder
from rlchat.machine import DTypeName, describe_cpu, peak_memory
from rlchat.methods import AdapterConfig
from rlchat.models import load_base
from rlchat.optimiser import MasterAdamW
from rlchat.policy import Policy
from rlchat.ranks import Ranks
from rlchat.rendering import Rendering
from rlchat.rollout import Trajectory
from rlchat.statistics import RunningStd
from rlchat.update import Learner, accumulate
from rlchat.worlds import Worlds, episode_seeds

Part = Literal["rollout", "decode", "update", "growth"]


@dataclass(frozen=True)
class SpeedOptions:
    """Time rollouts and updates."""

    parts: tuple[Part, ...] = ("decode", "update", "rollout", "growth")
    """What to time."""
    policy: str = "smollm2-135m"
    """The model."""
    dtype: DTypeName = "auto"
    """Its precision, and the usual way's."""
    episodes: tuple[int, ...] = (32, 64)
    """Episodes in flight, of rollouts."""
    turns: int = 6
    """Turns an episode, of rollouts."""
    repeats: int = 3
    """Timed runs of each."""
    out: Path = Path("runs/bench/speed.json")
    """Where the numbers go."""


@dataclass
class Report:
    """Numbers, and lines for people."""

    console: Console
    numbers: dict[str, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


# Rollouts


@torch.inference_mode()
def generate_anew(
    model: PreTrainedModel, rendering: Rendering, episodes: int, turns: int, seed: int
) -> int:
    """Play them the usual way: every turn renders all conversations anew and calls ``generate``."""
    torch.manual_seed(seed)
    tokenizer: Any = rendering.tokenizer
    tokenizer.padding_side = "left"
    worlds = Worlds(talk.world(turns))
    playing = {}
    for i in range(episodes):
        conversation = worlds[i].reset(episode_seeds(seed, 1, i)[0])
        playing[i] = [{"role": m.role, "content": m.content} for m in conversation]
    said = 0
    while playing:
        prompt = tokenizer.apply_chat_template(
            [*playing.values()],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        out = model.generate(
            **prompt,
            max_new_tokens=talk.REPLY,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=rendering.end_of_turn,
            pad_token_id=tokenizer.pad_token_id,
        )
        for (i, messages), row in zip([*playing.items()], out, strict=True):
            ids = row[prompt["input_ids"].shape[1] :].tolist()
            ids = (
                ids[: ids.index(rendering.end_of_turn) + 1] if rendering.end_of_turn in ids else ids
            )
            said += len(ids)
            text = rendering.text(ids)
            outcome = worlds[i].step(text)
            messages.append({"role": "assistant", "content": text})
            messages += [{"role": m.role, "content": m.content} for m in outcome.messages]
            if outcome.terminated:
                del playing[i]
    return said


def time_rollouts(options: SpeedOptions, report: Report) -> None:
    """Play the same number of episodes and turns both ways."""
    policy = Policy.create(options.policy, AdapterConfig(dtype=options.dtype))
    speaker, rendering = policy.speaker(None), policy.rendering
    usual, _, _ = load_base(options.policy, policy.dtype)
    for episodes in options.episodes:
        ours, said = talk.timed(
            lambda run, n=episodes: talk.play(speaker, rendering, n, options.turns, run),
            options.repeats,
        )
        theirs, heard = talk.timed(
            lambda run, n=episodes: generate_anew(usual, rendering, n, options.turns, run),
            options.repeats,
        )
        a, b = statistics.median(said) / ours, statistics.median(heard) / theirs
        report.numbers[f"rollout {episodes}"] = {
            "turns": options.turns,
            "seconds": ours,
            "sampled_tokens": said,
            "usual_seconds": theirs,
            "usual_sampled_tokens": heard,
            "ratio_of_seconds": theirs / ours,
            "ratio_of_tokens_per_second": a / b,
        }
        report.say(
            f"rollout, {episodes} episodes of {options.turns} turns: ours {ours:.1f} s "
            f"({a:.0f} sampled tokens/s), anew each turn {theirs:.1f} s ({b:.0f}): "
            f"{theirs / ours:.1f} times faster"
        )


def time_decoding(options: SpeedOptions, report: Report) -> None:
    """A token for each of 32 rows of 256, against reading all and multiplying all."""
    rows, context = 32, 256
    policy = Policy.create(options.policy, AdapterConfig(dtype=options.dtype))
    config, dtype = policy.hf.config, policy.dtype
    decoder = Decoder(policy.speaker(None), rows, context + 64, end_of_turn=-1)
    for row in range(rows):
        noise = episode_seeds(row)[1]
        prompt = [int(i) for i in noise.integers(3, config.vocab_size, context)]
        decoder.submit(row, prompt, noise.random, talk.LONG)
    while any(len(turn.pending) > 1 for turn in decoder._turns.values()):
        decoder.step()
    seconds, _ = talk.timed(lambda _: decoder.step(), 8 * options.repeats)
    maps = floor.linear_maps(config) * config.num_hidden_layers
    products = floor.Products.of([*maps, (config.vocab_size, config.hidden_size)], dtype)
    size = products.weights[0].element_size()
    heads = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    cached = rows * context * 2 * heads * config.num_hidden_layers
    bandwidth = floor.read_bandwidth()
    reading = (products.parameters + cached) * size / bandwidth
    multiplying = products.seconds(rows)
    least = max(reading, multiplying)
    report.numbers["decode"] = {
        "rows": rows,
        "context": context,
        "seconds": seconds,
        "floor_seconds": least,
        "ratio": seconds / least,
        "reading_seconds": reading,
        "multiplying_seconds": multiplying,
        "bandwidth_gb": bandwidth / 1e9,
        "gflops": 2 * products.parameters * rows / multiplying / 1e9,
    }
    report.say(
        f"decode, {rows} rows of {context} tokens: {1e3 * seconds:.0f} ms a token each; floor "
        f"{1e3 * least:.0f} ms = max({(products.parameters + cached) * size / 1e6:.0f} MB of "
        f"weights and cache at {bandwidth / 1e9:.1f} GB/s = {1e3 * reading:.0f} ms, "
        f"{2 * products.parameters * rows / 1e9:.1f} GFLOP, measured as bare products of these "
        f"shapes at {2 * products.parameters * rows / multiplying / 1e9:.0f} GFLOP/s = "
        f"{1e3 * multiplying:.0f} ms): {seconds / least:.2f} times the floor"
    )


# Updates


def conversations(policy: Policy, episodes: int) -> list[Trajectory]:
    """Real conversations, of the scenario's demonstrator, as a rollout would leave them."""
    made = []
    for i, conversation in enumerate(talk.demonstrate(talk.WorldConfig(), episodes, 0)):
        rendered = policy.rendering.conversation(conversation)
        trajectory = Trajectory(i, i, [], terminated=True)
        start = 0
        for end in range(1, len(rendered.ids) + 1):
            acts = rendered.action_mask[start]
            if end < len(rendered.ids) and rendered.action_mask[end] == acts:
                continue
            ids, start = rendered.ids[start:end], end
            if not acts:
                trajectory.observe(ids)
                continue
            trajectory.hidden.append({"goal": i})
            trajectory.act(ids, [-1.0] * len(ids))
            trajectory.parts.append({"resolution": float(i % 3)})
        made.append(trajectory)
    return made


def pad_all(policy: Policy, played: list[Trajectory], advantages: Tensor, old: Tensor) -> None:
    """One epoch the usual way: padded rows, all layers, logits of the whole vocabulary."""
    for start in range(0, len(played), 4):
        part = played[start : start + 4]
        width = max(len(t.ids) for t in part)
        ids, mask = torch.zeros(4, width, dtype=torch.long), torch.zeros(4, width)
        for row, t in enumerate(part):
            ids[row, : len(t.ids)] = torch.tensor(t.ids)
            mask[row, : len(t.ids)] = torch.tensor(t.action_mask, dtype=torch.float)
        logits = policy.model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        ratio = (logprobs - old[start : start + 4, 1:width]).clamp(-20, 20).exp()
        gain = advantages[start : start + 4, 1:width]
        loss = torch.maximum(-gain * ratio, -gain * ratio.clamp(0.8, 1.28)) * mask[:, 1:]
        (loss.sum() / 1000).backward()


def time_updates(options: SpeedOptions, report: Report) -> None:
    """One epoch over 32 real conversations: ours, the usual way, and the floor."""
    policy = Policy.create(options.policy, AdapterConfig(dtype=options.dtype))
    policy.train_top(AdapterConfig().layers)
    played = conversations(policy, 32)
    critic, config = Critic(policy.hf.config.hidden_size, CriticConfig()), PPOConfig()
    learner = Learner(
        policy,
        critic,
        MasterAdamW(policy.parameters(), 1e-4),
        torch.optim.Adam(critic.parameters()),
        Ranks(cpu=True),
    )
    batch = pack(played)
    annotating, (annotated, *_) = talk.timed(
        lambda _: annotate(policy, critic, batch, config.token_budget), options.repeats
    )
    scores = [(t.index, t.score) for t in played]
    estimated = estimate(annotated, config.settings(critic.config), 0.03, RunningStd(), scores)
    rows = torch.arange(len(played))
    ours, _ = talk.timed(
        lambda _: accumulate(learner, estimated, rows, config, 1e3), options.repeats
    )
    policy.model.gradient_checkpointing_disable()
    old = annotated.logprobs
    theirs, _ = talk.timed(
        lambda _: pad_all(policy, played, estimated.advantages, old), options.repeats
    )
    hf = policy.hf.config
    layers = hf.num_hidden_layers - policy.floor
    maps = floor.Products.of(floor.linear_maps(hf) * layers, policy.dtype)
    rate = 2 * maps.parameters * 1024 / maps.seconds(1024)
    head, lora = hf.vocab_size * hf.hidden_size, sum(p.numel() for p in policy.parameters())
    actions = int(batch.action_mask.sum())
    work = batch.tokens * (4 * maps.parameters + 6 * lora) + actions * 4 * head
    least = work / rate
    report.numbers["update"] = {
        "episodes": len(played),
        "tokens": batch.tokens,
        "action_tokens": actions,
        "seconds": ours,
        "tokens_per_second": batch.tokens / ours,
        "annotate_seconds": annotating,
        "usual_seconds": theirs,
        "ratio_to_usual": theirs / ours,
        "floor_seconds": least,
        "ratio_to_floor": ours / least,
        "gflop": work / 1e9,
        "gflops": rate / 1e9,
    }
    report.say(
        f"update, {len(played)} conversations, {batch.tokens} tokens, {actions} of them actions: "
        f"{ours:.1f} s an epoch ({batch.tokens / ours:.0f} tokens/s); padded, all layers, whole "
        f"vocabulary {theirs:.1f} s: {theirs / ours:.1f} times faster; floor {least:.1f} s = "
        f"({batch.tokens} tokens x (4 x {maps.parameters / 1e6:.1f}M frozen weights of {layers} "
        f"layers + 6 x {lora / 1e6:.2f}M of the adapter) + {actions} x 4 x {head / 1e6:.1f}M of "
        f"the head) at {rate / 1e9:.0f} GFLOP/s: {ours / least:.2f} times the floor"
    )


def time_growth(options: SpeedOptions, report: Report) -> None:
    """What an episode costs as its turns, its neighbours and its model grow."""
    sizes = growth.measure(options.policy, options.dtype, options.repeats, report.say)
    report.numbers["growth"] = sizes
    growth.plot(sizes, options.out.with_name("growth.svg"))


PARTS: dict[Part, Callable[[SpeedOptions, Report], None]] = {
    "rollout": time_rollouts,
    "decode": time_decoding,
    "update": time_updates,
    "growth": time_growth,
}


def main(options: SpeedOptions) -> None:
    """Time the parts, print lines, write the numbers."""
    report = Report(Console())
    for part in options.parts:
        PARTS[part](options, report)
        report.numbers |= {
            "peak_memory_gib": peak_memory(),
            "transformers": transformers.__version__,
            "machine": describe_cpu(),
            "repeats": options.repeats,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(options.out, report.numbers)
    report.say(
        f"{describe_cpu()}, {options.repeats} repeats, peak {peak_memory():.1f} GiB; numbers in "
        f"{options.out}"
    )


if __name__ == "__main__":
    quiet()
    main(tyro.cli(SpeedOptions))
