"""Rollouts: ours, and the usual way that renders and generates anew each turn."""

from __future__ import annotations

import statistics
from typing import Any

import talk
import torch
from bench import Report, SpeedOptions, runs
from transformers import PreTrainedModel

from rlchat.models.chat_template import ChatTemplate
from rlchat.models.loading import load_base
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.seeding import episode_seeds

Messages = list[dict[str, str]]


@torch.inference_mode()
def generate_anew(
    model: PreTrainedModel, template: ChatTemplate, episodes: int, turns: int, seed: int
) -> int:
    """Play episodes the usual way; give the tokens that were sampled.

    Every turn renders all conversations anew, pads them and calls ``generate``.
    """
    torch.manual_seed(seed)
    worlds = EnvPool(talk.world(turns))
    playing: dict[int, Messages] = {}
    for i in range(episodes):
        conversation = worlds[i].reset(episode_seeds(seed, 1, i)[0])
        playing[i] = [{"role": m.role, "content": m.content} for m in conversation]
    said = 0
    while playing:
        replies = generate(model, template, [*playing.values()])
        for (i, messages), ids in zip([*playing.items()], replies, strict=True):
            said += len(ids)
            text = template.text(ids)
            outcome = worlds[i].step(text)
            messages.append({"role": "assistant", "content": text})
            messages += [{"role": m.role, "content": m.content} for m in outcome.messages]
            if outcome.terminated:
                del playing[i]
    return said


def generate(
    model: PreTrainedModel, template: ChatTemplate, conversations: list[Messages]
) -> list[list[int]]:
    """The token ids of one reply to each conversation, with the token that ends it."""
    tokenizer: Any = template.tokenizer
    tokenizer.padding_side = "left"
    prompt = tokenizer.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    speaks: Any = model
    out = speaks.generate(
        **prompt,
        max_new_tokens=talk.REPLY,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=sorted(template.stop_ids),
        pad_token_id=tokenizer.pad_token_id,
    )
    replies: list[list[int]] = out[:, prompt["input_ids"].shape[1] :].tolist()
    return [_up_to_end(ids, template) for ids in replies]


def _up_to_end(ids: list[int], template: ChatTemplate) -> list[int]:
    """The ids of a reply, without what fills its row."""
    end = next((p for p, i in enumerate(ids) if i in template.stop_ids), len(ids))
    return ids[: end + 1]


def time_rollouts(options: SpeedOptions, report: Report) -> None:
    """Play the same number of episodes and turns both ways."""
    policy = options.load()
    speaker, template, turns = policy.generation_model(None), policy.template, options.turns
    usual, _, _ = load_base(options.policy, policy.dtype)
    for episodes in options.episodes:
        what = f"rollout of {episodes} episodes"

        def ours(run: int, n: int = episodes) -> int:
            return talk.play(speaker, template, n, turns, run)

        def theirs(run: int, n: int = episodes) -> int:
            return generate_anew(usual, template, n, turns, run)

        seconds, said = report.timed(f"{what}, ours", ours, options.repeats)
        usual_seconds, heard = report.timed(f"{what}, anew", theirs, options.usual_repeats)
        numbers = {
            "turns": turns,
            "repeats": options.repeats,
            "usual_repeats": options.usual_repeats,
            "seconds": seconds,
            "sampled_tokens": statistics.median(said),
            "usual_seconds": usual_seconds,
            "usual_sampled_tokens": statistics.median(heard),
            "ratio_of_seconds": usual_seconds / seconds,
        }
        report.add(f"rollout {episodes}", options, numbers)
        report.say(describe(episodes, numbers))


def describe(episodes: int, numbers: dict[str, Any]) -> str:
    """A rollout's line."""
    seconds, usual = numbers["seconds"], numbers["usual_seconds"]
    return (
        f"rollout, {episodes} episodes of {numbers['turns']} turns: ours {seconds:.1f} s "
        f"({numbers['sampled_tokens'] / seconds:.0f} sampled tokens/s, "
        f"{runs(numbers['repeats'])}), anew each turn {usual:.1f} s "
        f"({numbers['usual_sampled_tokens'] / usual:.0f} sampled tokens/s, "
        f"{runs(numbers['usual_repeats'])}): {usual / seconds:.1f} times faster"
    )
