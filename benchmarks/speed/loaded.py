"""Decoding and an update beside one busy process, and what OpenMP's way of waiting does there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import decode
import update
import waiting
from bench import Report, SpeedOptions

from rlchat.models.policy import Policy

CONTEXT = 64  # less than decoding alone has: what is heard first takes longer than the steps
STEPS, CONVERSATIONS = 8, 8
SECONDS = 3.0  # of products, idle and loaded


def time_loaded(options: SpeedOptions, report: Report) -> None:
    """The same work idle and loaded, with the package's waiting; products with both policies."""
    policy = options.load()
    numbers = {
        "rows": decode.ROWS,
        "context": CONTEXT,
        "steps": STEPS,
        "conversations": CONVERSATIONS,
        "waiting": waiting.told(os.environ),
        **decoding(policy, report),
        **learning(policy, report),
        **products(report),
    }
    report.add("loaded", options, numbers)
    for line in describe(numbers):
        report.say(line)


def decoding(policy: Policy, report: Report) -> dict[str, float]:
    """The mean seconds of a step, idle and loaded."""
    report.step(f"loaded, decode: {decode.ROWS} rows hear {CONTEXT} tokens each")
    decoder = decode.listening(policy, decode.ROWS, CONTEXT, 2 * STEPS + 1)
    decoder.step()

    def steps() -> None:
        for _ in range(STEPS):
            decoder.step()

    return both(report, "decode", steps, STEPS)


def learning(policy: Policy, report: Report) -> dict[str, float]:
    """The seconds of an epoch, idle and loaded."""
    report.step(f"loaded, update: {CONVERSATIONS} conversations are annotated")
    epoch = update.Epoch.over(policy, CONVERSATIONS)
    epoch.learn(1)  # reorders the weights, which happens once
    return both(report, "update", epoch.learn, 1)


def products(report: Report) -> dict[str, float]:
    """GFLOP/s of bare products under each policy, idle and loaded."""
    rates: dict[str, float] = {}
    for name in waiting.POLICIES:
        report.step(f"loaded, products, {name}: in a process with that policy")
        asked = waiting.ask(name, SECONDS)
        rates |= {f"{name}_{state}_gflops": rate for state, rate in asked.items()}
    return rates


def both(report: Report, what: str, action: Callable[[], object], count: int) -> dict[str, float]:
    """The mean seconds of work that is done ``count`` times, idle and loaded, and their ratio."""
    report.step(f"loaded, {what}: idle")
    idle = seconds(action) / count
    report.step(f"loaded, {what}: beside a busy process")
    with waiting.busy_process():
        loaded = seconds(action) / count
    return {
        f"{what}_idle_seconds": idle,
        f"{what}_loaded_seconds": loaded,
        f"{what}_ratio": loaded / idle,
    }


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def describe(numbers: dict[str, Any]) -> list[str]:
    """A line for decoding, for the update and for the products of each policy."""
    n = numbers
    lines = [
        f"loaded, decode, {n['rows']} rows of {n['context']} tokens: "
        f"{1e3 * n['decode_idle_seconds']:.0f} ms a step idle, "
        f"{1e3 * n['decode_loaded_seconds']:.0f} ms beside one busy process: "
        f"{n['decode_ratio']:.2f} times as long (mean of {n['steps']} steps each; {n['waiting']})",
        f"loaded, update, {n['conversations']} conversations: {n['update_idle_seconds']:.1f} s "
        f"idle, {n['update_loaded_seconds']:.1f} s beside one busy process: "
        f"{n['update_ratio']:.2f} times as long (1 run each; {n['waiting']})",
    ]
    shape = " x ".join(str(size) for size in waiting.SHAPE)
    for name, settings in waiting.POLICIES.items():
        idle, loaded = (n[f"{name}_{state}_gflops"] for state in ("idle", "loaded"))
        lines.append(
            f"loaded, products of {shape} in float32, {name} ({waiting.told(settings)}): "
            f"{idle:.0f} GFLOP/s idle, {loaded:.0f} beside one busy process: "
            f"{idle / loaded:.2f} times as long (1 run of {SECONDS:.0f} s each)"
        )
    return lines
