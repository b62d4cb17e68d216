"""Decoding: a token for each of some rows, against reading all and multiplying all."""

from __future__ import annotations

from typing import Any

import floor
import talk
from bench import Report, SpeedOptions

from rlchat.inference.decoder import Decoder
from rlchat.models.policy import Policy
from rlchat.rollout.seeding import episode_seeds

ROWS, CONTEXT = 32, 256
STEPS = 8  # timed for each repeat


def listening(policy: Policy, rows: int, context: int, steps: int) -> Decoder:
    """A decoder whose rows have heard so many random tokens, with room for some steps more."""
    room = context + rows + steps  # rows that have heard already speak while others hear
    decoder = Decoder(policy.generation_model(None), rows, room, stop_ids=())
    for row in range(rows):
        noise = episode_seeds(row)[1]
        prompt = [int(i) for i in noise.integers(3, policy.hf.config.vocab_size, context)]
        decoder.submit(row, prompt, noise.random, talk.LONG)
    while any(len(turn.pending) > 1 for turn in decoder._turns.values()):
        decoder.step()
    return decoder


def time_decoding(options: SpeedOptions, report: Report) -> None:
    """A token for each of 32 rows of 256, and the least that it could take."""
    policy, steps = options.load(), STEPS * options.repeats
    report.step(f"decode, {ROWS} rows hear {CONTEXT} tokens each")
    decoder = listening(policy, ROWS, CONTEXT, steps)
    seconds, _ = talk.timed(lambda _: decoder.step(), steps)
    report.step("decode, the floor: bare reads and products")
    numbers = {"rows": ROWS, "context": CONTEXT, "steps": steps, "seconds": seconds}
    numbers |= least(policy)
    numbers["ratio"] = seconds / numbers["floor_seconds"]
    report.add("decode", options, numbers)
    report.say(describe(numbers))


def least(policy: Policy) -> dict[str, float]:
    """The seconds of a step's reads and of its products on this machine, and what they are of."""
    config = policy.hf.config
    maps = floor.linear_maps(config) * config.num_hidden_layers
    products = floor.Products.of([*maps, (config.vocab_size, config.hidden_size)], policy.dtype)
    heads = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    cached = ROWS * CONTEXT * 2 * heads * config.num_hidden_layers
    size = (products.parameters + cached) * products.weights[0].element_size()
    bandwidth, multiplying = floor.read_bandwidth(), products.seconds(ROWS)
    return {
        "floor_seconds": max(size / bandwidth, multiplying),
        "reading_mb": size / 1e6,
        "reading_seconds": size / bandwidth,
        "bandwidth_gb": bandwidth / 1e9,
        "gflop": 2 * products.parameters * ROWS / 1e9,
        "multiplying_seconds": multiplying,
    }


def describe(numbers: dict[str, Any]) -> str:
    """Decoding's line."""
    n = numbers
    return (
        f"decode, {n['rows']} rows of {n['context']} tokens: {1e3 * n['seconds']:.0f} ms a token "
        f"each (median of {n['steps']} steps); floor {1e3 * n['floor_seconds']:.0f} ms = "
        f"max({n['reading_mb']:.0f} MB of weights and cache at {n['bandwidth_gb']:.1f} GB/s = "
        f"{1e3 * n['reading_seconds']:.0f} ms, {n['gflop']:.1f} GFLOP, measured as bare products "
        f"of these shapes at {n['gflop'] / n['multiplying_seconds']:.0f} GFLOP/s = "
        f"{1e3 * n['multiplying_seconds']:.0f} ms): {n['ratio']:.2f} times the floor"
    )
