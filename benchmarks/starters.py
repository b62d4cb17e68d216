"""Remake the trained agents that come with the package, and compare them with the committed ones.

    make starters

`rlchat train` from nothing, with one pass over its demonstrations: the warm start, and what PPO
makes of it, each rounded to bfloat16 and measured on users of the test side, greedily. What is
finished is kept, so that the same command goes on. `--keep` puts the result into the package; that
is due whenever the world, its words, the chat template or the base model change, which a test
notices.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from rlchat.cli.libraries import quiet
from rlchat.cli.main import guarded
from rlchat.cli.train import run_training
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, difference, evaluate
from rlchat.evaluation.summary import with_interval
from rlchat.files import atomic_folder, write_json
from rlchat.inference.load_agent import load_agent
from rlchat.models.adapter_io import adapter_hash, base_spec
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.device import describe_cpu
from rlchat.models.loading import weights_hash
from rlchat.models.starters import CARD, FOLDER, STARTERS
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.environment import EnvConfig
from rlchat.statistics import Interval
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.run_folder import RunFolder, read_metrics, to_json
from rlchat_envs import SPLITS, Conversation

SIDES: tuple[Literal["train", "dev", "test"], ...] = ("test",)
FITTED = 200  # conversations a side that say whether world and words are still the same
PACKAGES = ("torch", "transformers", "peft", "trl")
RECIPE = TrainConfig(
    iterations=14,
    evaluation=0,
    warm_start=WarmStartConfig(demonstrations=1500, epochs=1),
)


@dataclass(frozen=True)
class StarterOptions:
    """Train warm start and agent from nothing, and compare them with the committed ones."""

    out: Path = Path("runs/starters")
    """Where the run and the rounded adapters go."""
    episodes: int = 200
    """Users of each side."""
    keep: bool = False
    """Put the adapters and their card into the package."""


def main(options: StarterOptions) -> None:
    """Train what is missing, round, measure, compare; perhaps keep."""
    console = Console()
    config = replace(RECIPE, run=options.out / "run")
    run = RunFolder(config.run)
    if run.iterations < config.iterations:
        run_training(replace(config, resume=run.warm_start.is_dir()), console)
    rounded = options.out / "starter"
    for starter, made in zip(STARTERS.values(), (run.adapter, run.warm_start), strict=True):
        round_adapter(made, rounded / starter.place)
    results = measure(rounded, options.episodes)
    write_json(rounded / CARD, card(rounded, run, config, results))
    for line in report(rounded):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if options.keep:
        with atomic_folder(FOLDER) as new:
            shutil.copytree(rounded, new, dirs_exist_ok=True)


def round_adapter(made: Path, folder: Path) -> None:
    """Write an adapter anew in bfloat16: half the size, and what a policy in bfloat16 speaks with.

    Its base is called by its name, not by where it lies on this machine.
    """
    import torch  # here, so that rlchat is imported first and chooses threads
    from safetensors.torch import load_file, save_file

    with atomic_folder(folder) as new:
        weights = load_file(made / "adapter_model.safetensors")
        rounded = {name: w.to(torch.bfloat16).contiguous() for name, w in weights.items()}
        save_file(rounded, new / "adapter_model.safetensors", metadata={"format": "pt"})
        shutil.copy(made / "rlchat_base.json", new)
        peft = json.loads((made / "adapter_config.json").read_text("utf-8"))
        write_json(new / "adapter_config.json", peft | {"base_model_name_or_path": base_spec(made)})


def measure(rounded: Path, episodes: int) -> dict[str, dict[str, EvaluationResult]]:
    """Results by side and name."""
    results: dict[str, dict[str, EvaluationResult]] = {side: {} for side in SIDES}
    for starter in STARTERS.values():
        agent = load_agent(str(rounded / starter.place))
        for side in SIDES:
            users = EvalConfig(side, episodes)
            results[side][starter.name] = evaluate(agent, EnvConfig(), users, starter.name)
    return results


def card(
    rounded: Path,
    run: RunFolder,
    config: TrainConfig,
    results: dict[str, dict[str, EvaluationResult]],
) -> dict[str, Any]:
    """How the adapters were made, what they fit to and what they achieve."""
    first, *_ = STARTERS.values()
    settings = {k: v for k, v in to_json(asdict(config)).items() if k not in ("run", "resume")}
    rows = read_metrics(run.metrics)
    return {
        "command": "python benchmarks/starters.py --keep",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_cpu(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "settings": settings,
        "practice_minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "practice_success": [row["success"] for row in rows],
        "fits": fits(rounded / first.place),
        "adapters": {s.name: adapter_hash(rounded / s.place) for s in STARTERS.values()},
        "episodes": len(results["test"][first.name].episodes),
        "success": {n: asdict(r.metrics["success"]) for n, r in results["test"].items()},
        "sides": {
            side: {name: _measured(r) for name, r in of_side.items()}
            for side, of_side in results.items()
        },
        "gain": {side: _gain(of_side) for side, of_side in results.items()},
    }


def _measured(result: EvaluationResult) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in result.metrics.items()}


def _gain(results: dict[str, EvaluationResult]) -> dict[str, float]:
    """What practice added to success, paired."""
    after, before = results.values()
    return asdict(difference(after, before)["success"])


def fits(adapter: Path) -> dict[str, str]:
    """What an adapter has learned to deal with, as hashes: base, world, rendering and template."""
    from transformers import AutoTokenizer

    from rlchat.models.fetching.catalog import fetch

    spoken = conversations()
    base = fetch(base_spec(adapter))
    return {
        "base": weights_hash(base),
        "world": hash_of([[(m.role, m.content) for m in c] for c in spoken]),
        "rendering": rendered(spoken, ChatTemplate(byte_tokenizer())),
        "template": rendered(spoken, ChatTemplate(AutoTokenizer.from_pretrained(base))),
    }


def conversations() -> list[Conversation]:
    """What the scenario's demonstrator and its users say, on every side."""
    return [c for side in SPLITS for c in demonstrate(EnvConfig(), FITTED, 0, side)]


def rendered(spoken: Sequence[Conversation], template: ChatTemplate) -> str:
    """The hash of conversations as a model reads them."""
    return hash_of([template.conversation(c).ids for c in spoken])


def hash_of(value: object) -> str:
    """SHA-256 of a value's JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def report(rounded: Path) -> list[str]:
    """What was measured, beside what is committed, and whether the intervals overlap."""
    new = json.loads((rounded / CARD).read_text("utf-8"))
    committed = FOLDER / CARD
    old = json.loads(committed.read_text("utf-8")) if committed.is_file() else None
    lines = []
    for side in SIDES:
        for name, metrics in new["sides"][side].items():
            here = Interval(**metrics["success"])
            line = f"{name}, {side} side: success {with_interval(here, '{:.1%}')}"
            if old is not None:
                line += f"; {beside(here, Interval(**old['sides'][side][name]['success']))}"
            lines.append(line)
        gain = with_interval(Interval(**new["gain"][side]), "{:+.1%}")
        lines.append(f"practice added, {side} side, paired: {gain}")
    return lines


def beside(here: Interval, committed: Interval) -> str:
    """A committed interval, and whether it overlaps with the one measured here."""
    overlap = here.low <= committed.high and committed.low <= here.high
    verdict = "the intervals overlap" if overlap else "THE INTERVALS DO NOT OVERLAP"
    return f"committed {with_interval(committed, '{:.1%}')}: {verdict}"


if __name__ == "__main__":
    quiet()
    hint = "; the same command goes on with what is finished"
    sys.exit(guarded(lambda: main(tyro.cli(StarterOptions)), "starters", hint))
