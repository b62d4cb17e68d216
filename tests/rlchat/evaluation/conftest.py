"""A run folder as training leaves it, written by hand, with text that means harm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import evaluate
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.episodes import play_episodes

MakeRun = Callable[..., Path]
HARM = (
    "</script><script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 2'>",
    "<!--<script>",
    "{{ 7 * 7 }} {% raw %} ${window.harmed = 3} $x^2$",
    "🙂👩‍👩‍👧 שלום עולם مرحبا 日本語",
    "line\u2028separator \u0000 \ud83d end",
    "javascript:window.harmed = 4 https://example.com/a.png",
)
WORDS = ["May", " I", " have", " it", "?", "<|im_end|>"]


def token_line(index: int, turns: int) -> dict[str, Any]:
    count = len(WORDS) * turns
    some = [math.sin(index + i) for i in range(count)]
    return {
        "index": index,
        "turn": [i // len(WORDS) for i in range(count)],
        "text": WORDS * turns,
        "logprob": [-abs(x) for x in some],
        "reference": [-abs(x) - 0.1 for x in some],
        "value": some,
        "advantage": some,
        "alternatives": [[[w, -0.1], ["</script>", -2.5]] for w in WORDS * turns],
    }


def metrics_row(iteration: int, shift: float) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "return": shift + 0.1 * iteration,
        "success": None if iteration == 1 else min(1.0, 0.2 + shift + 0.1 * iteration),
        "kl": 0.01 * iteration,
        "entropy": float("nan") if iteration == 2 else 0.3,
        "explained_variance": 0.1,
        "parts/progress": 0.1 * iteration,
        "parts/courtesy": -0.1,
        "parts/never": 0.0,
        "watch/proxy": 0.2 * iteration,
        "watch/proxy_error": 0.05,
        "watch/success": 0.4,
        "watch/success_error": 0.05,
        "watch/alarm": float(iteration == 2),
        "seconds": 12.0,
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """See `write_run`."""
    return lambda *arguments: write_run(tmp_path, *arguments)


def write_run(
    place: Path, name: str = "run", shift: float = 0.0, agent: str = "demonstrator"
) -> Path:
    """Write a run of three iterations: real users of Support-v0, and agents that are scripts."""
    folder = place / name
    (folder / "transcripts").mkdir(parents=True)
    (folder / "tokens").mkdir()
    config = {"env": "rlchat/Support-v0", "users": "", "episodes": 8, "iterations": 4}
    config |= {"policy": "tiny", "seed": 0, "resolved": {"dtype": "float32"}}
    (folder / "config.json").write_text(json.dumps(config))
    rows = [metrics_row(i, shift) for i in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    env = EnvConfig()
    for iteration in range(3):
        with EnvPool(env, "train") as pool:
            played = play_episodes(
                ScenarioAgent(agent), pool, range(8), iteration, 1.0, RolloutConfig()
            )
        lines = []
        for e in played:
            messages = [{"role": m.role, "content": m.content} for m in e.conversation]
            messages[-1]["content"] += " " + HARM[e.index % len(HARM)]
            line = {"index": e.index, "seed": e.seed, "messages": messages}
            line |= {"parts": [dict(p) for p in e.parts], "costs": [dict(c) for c in e.costs]}
            line |= {"success": e.success, "terminated": e.terminated}
            line |= {"truncated": e.truncated, "score": e.score}
            lines.append(json.dumps(line) + "\n")
        (folder / "transcripts" / f"{iteration:04d}.jsonl").write_text("".join(lines))
        tokens = [json.dumps(token_line(e.index, len(e.parts))) + "\n" for e in played[:4]]
        (folder / "tokens" / f"{iteration:04d}.jsonl").write_text("".join(tokens))
    results = [
        evaluate(ScenarioAgent(a), env, EvalConfig("dev", 12), n).to_json()
        for n, a in (("warm start", "random"), ("PPO", agent))
    ]
    kept = {"iterations": 3, "results": results}
    (folder / "evaluation.json").write_text(json.dumps(kept))
    return folder
