"""What a turn costs as conversations grow longer, as more are in flight, as the model grows."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import talk
from matplotlib.figure import Figure

from rlchat.files import write_text
from rlchat.inference.kv_cache import StepLayout
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.settings import DTypeName

TURNS, EPISODES = (2, 4, 8, 16), (8, 16, 32, 64, 128)
MODELS = ("tiny", "smollm2-135m")

Sizes = dict[str, list[dict[str, Any]]]


@contextmanager
def attention_timed() -> Iterator[list[float]]:
    """Gather the seconds that steps of ours spend in attention, cache included."""
    seconds: list[float] = []
    attend = StepLayout.attend

    def timed(*arguments: Any) -> Any:
        begun = time.perf_counter()
        out = attend(*arguments)
        seconds.append(time.perf_counter() - begun)
        return out

    StepLayout.attend = timed  # type: ignore[method-assign, assignment]
    try:
        yield seconds
    finally:
        StepLayout.attend = attend  # type: ignore[method-assign]


def measure(model: str, dtype: DTypeName, repeats: int, say: Callable[[str], None]) -> Sizes:
    """Seconds a turn, and attention's share of them, for turns, episodes and models."""
    policy = Policy.create(model, AdapterConfig(dtype=dtype))
    sizes: Sizes = {"turns": [], "episodes": [], "model": []}

    def add(table: str, size: Any, speaks: Policy, episodes: int, turns: int) -> None:
        with attention_timed() as attention:
            seconds, _ = talk.timed(
                lambda run: talk.play(
                    speaks.generation_model(None), speaks.template, episodes, turns, run
                ),
                repeats,
            )
        share = sum(attention) / repeats / seconds
        a_turn = seconds / episodes / turns
        sizes[table].append({table: size, "seconds_a_turn": a_turn, "attention": share})
        say(
            f"growth, {table} {size}: {episodes} episodes of {turns} turns, {1e3 * a_turn:.1f} ms "
            f"a turn, {share:.0%} of them attention"
        )

    for turns in TURNS:
        add("turns", turns, policy, 32, turns)
    for episodes in EPISODES:
        add("episodes", episodes, policy, episodes, 4)
    for name in dict.fromkeys((*MODELS, model)):
        speaks = policy if name == model else Policy.create(name, AdapterConfig(dtype=dtype))
        add("model", name, speaks, 32, 4)
    return sizes


def plot(sizes: Sizes, path: Path) -> None:
    """Draw one panel a table: milliseconds a turn, attention's part of them below."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    labels = {"turns": "turns an episode (32 in flight)", "episodes": "episodes in flight"}
    for axes, (table, rows) in zip(figure.subplots(1, 3), sizes.items(), strict=True):
        names = [str(row[table]) for row in rows]
        whole = [1e3 * row["seconds_a_turn"] for row in rows]
        attention = [w * row["attention"] for w, row in zip(whole, rows, strict=True)]
        axes.bar(names, whole, color="#9ecae1", label="all else")
        axes.bar(names, attention, color="#3182bd", label="attention and cache")
        axes.set_xlabel(labels.get(table, table))
        axes.set_ylabel("ms a turn")
    axes.legend(frameon=False)
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None})
    write_text(path, drawing.getvalue())
