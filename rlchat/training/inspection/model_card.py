"""The model card of a run: README.md with results, data, settings and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rlchat.evaluation.evaluate import EvaluationResult, difference
from rlchat.evaluation.summary import FORMATS, markdown, measured_names, with_interval
from rlchat.files import write_text
from rlchat.models.adapter_io import adapter_hash, base_spec
from rlchat.models.fetching.catalog import CATALOGUE, is_hub_id
from rlchat.statistics import Interval
from rlchat.training.comparison import before_and_after, by_environment
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder

CARD = "README.md"
_KEPT = "writes it anew unless this line is deleted"
MARK = f"<!-- rlchat wrote this card, and {_KEPT}. -->"
WITHOUT_PEOPLE = "; no conversation of a person is among those it was trained on in this run"
_LEVEL = 0.95


@dataclass(frozen=True)
class Base:
    """What is known of a base model.

    Attributes:
        hub_id: its id on the Hugging Face hub, if it is there.
        licence: if known.
        shown: its name for people.
        sha256: of its weights.
    """

    hub_id: str
    licence: str
    shown: str
    sha256: str


def leave_card(run: RunFolder, results: Sequence[EvaluationResult], config: TrainConfig) -> None:
    """Write the model card of a run into its folder, unless a person has taken it over.

    Args:
        run: its folder, with the adapter.
        results: of the evaluation before and after, if there was one.
        config: of the run.
    """
    path = run.folder / CARD
    if not run.adapter.is_dir() or (path.is_file() and not is_ours(path.read_text("utf-8"))):
        return
    name, base = run.folder.resolve().name, base_of(run.read_config()["resolved"].get("base", {}))
    sections = [
        heading(name, front_matter(name, base, results, config)),
        _summary(base, config, run),
        _results(results),
        _data(config, run),
        _settings(config, base, run),
        _limits(results, config),
        use(base, "FOLDER/adapter"),
    ]
    write_text(path, "\n\n".join(section for section in sections if section) + "\n")


def is_ours(card: str) -> bool:
    """Whether rlchat wrote a card, and no person has taken it over."""
    return _KEPT in card


def heading(name: str, front: Mapping[str, Any]) -> str:
    """What a card begins with: its data for the hub, the mark of who wrote it, and its name."""
    data = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    return f"---\n{data}---\n\n{MARK}\n\n# {name}"


def front_matter(
    name: str, base: Base, results: Sequence[EvaluationResult], config: TrainConfig
) -> dict[str, Any]:
    """What the hub reads of a card: base, licence, tags, and results with their intervals."""
    front = common_front(base, "reinforcement-learning", "ppo", config.adapter.method)
    if results:
        own = [_indexed(group) for group in by_environment(results)]
        front["model-index"] = [{"name": name, "results": own}]
    return front


def common_front(base: Base, *tags: str) -> dict[str, Any]:
    """What the hub reads of any card of an adapter."""
    front: dict[str, Any] = {}
    if base.hub_id:
        front["base_model"] = base.hub_id
    front["library_name"] = "peft"
    if base.licence:
        front["license"] = base.licence.lower()
    front["pipeline_tag"] = "text-generation"
    front["tags"] = ["rlchat", "dialogue", *tags]
    return front


def _indexed(results: Sequence[EvaluationResult]) -> dict[str, Any]:
    """The result of PPO in one environment as `model-index` has it."""
    _, result = before_and_after(results)
    count = len(result.episodes)
    asked = {
        "users": list(result.env.users) or "usual",
        "knowledge": list(result.env.knowledge) or "none",
        **({"stated style": list(result.env.stated_style)} if result.env.stated_style else {}),
        "seed": result.seed,
        "episodes": count,
        "temperature": result.temperature,
    }
    metrics = [
        {
            "type": name.replace(" ", "_"),
            "value": round(interval.mean, 4),
            "name": f"{name}, {_LEVEL:.0%} interval {_bounds(name, interval)}, {count} users",
            "args": {
                "low": round(interval.low, 4),
                "high": round(interval.high, 4),
                "level": _LEVEL,
            },
        }
        for name, interval in result.metrics.items()
        if name in measured_names(results) and math.isfinite(interval.mean)
    ]
    return {
        "task": {"type": "text-generation", "name": "dialogue with simulated users"},
        "dataset": {
            "type": result.env.env,
            "name": result.env.env,
            "split": result.split,
            "args": asked,
        },
        "metrics": metrics,
    }


def _bounds(name: str, interval: Interval) -> str:
    form = FORMATS.get(name, "{:.3g}")
    return f"{form.format(interval.low)} to {form.format(interval.high)}"


def base_of(recorded: Mapping[str, Any]) -> Base:
    """The base model, from what an adapter or a run recorded of it."""
    spec, sha256 = str(recorded.get("spec", "")), str(recorded.get("weights_sha256", ""))
    if spec in CATALOGUE:
        known = CATALOGUE[spec]
        return Base(known.hub_id, known.licence, spec, sha256)
    if is_hub_id(spec) and "@" in str(recorded.get("source", "")):
        return Base(spec, "", spec, sha256)
    return Base("", "", "a model in a local folder", sha256)


def _summary(base: Base, config: TrainConfig, run: RunFolder) -> str:
    return (
        f"A dialogue agent: an adapter ({config.adapter.method}) over {base.shown}, trained by "
        f"multi-turn PPO (rlchat) in conversations with simulated users, {run.iterations} "
        f"iterations of {config.episodes} each. `adapter/` loads with plain peft."
    )


def _start(config: TrainConfig, run: RunFolder) -> str:
    """What PPO started from."""
    if base_spec(run.warm_start) != config.policy:
        return "Start: an adapter that was trained before; this card does not know on what."
    if count := config.warm_start.demonstrations * (config.mixture.ours is not None):
        return f"Start: imitation of {count} conversations of the scenario's scripted demonstrator."
    return "Start: the base, without a warm start."


def _results(results: Sequence[EvaluationResult]) -> str:
    if not results:
        return "## Results\n\nThis run was not evaluated (`--evaluation 0`)."
    lines = ["## Results"]
    for own in by_environment(results):
        before, after = before_and_after(own)
        lines += [
            f"{after.env.env}, {after.split} side: {len(after.episodes)} users that were not "
            f"trained on, {'greedy' if after.temperature == 0 else 'sampled'}; mean "
            f"({_LEVEL:.0%} interval).",
            markdown(own),
        ]
        gained = ", ".join(
            f"{name} {with_interval(interval, _signed(name))}"
            for name, interval in difference(after, before).items()
            if name in ("success", "score", "turns")
        )
        lines.append(f"PPO minus {before.agent}, paired on the same users: {gained}.")
    return "\n\n".join(lines)


def _signed(name: str) -> str:
    return FORMATS[name].replace("{:", "{:+").replace("++", "+")


def _data(config: TrainConfig, run: RunFolder) -> str:
    lines = ["## Data", ""]
    for env in config.mixture.envs:
        users, knowledge = ", ".join(env.users) or "the usual ones", ", ".join(env.knowledge)
        style = f"; stated style: {', '.join(env.stated_style)}" if env.stated_style else ""
        lines.append(
            f"- Environment `{env.env}`, training side; families of users: {users}; look-ups: "
            f"{knowledge or 'none'}{style}."
        )
    lines.append(f"- {_start(config, run)}")
    reward = config.reward
    learned = "none" if reward.model is None else "a reward model"
    paid = reward.weights or ", ".join(f"{k}={v:g}" for k, v in reward.weighed.items())
    lines.append(f"- Reward: {paid}; learned: {learned}.")
    if reward.judged:
        lines.append(f"- Judge: `{reward.judge}`, by the rubric `{reward.rubric}`.")
    written = any("llm" in user for env in config.mixture.envs for user in env.users)
    lines.append(
        "- Users are simulated"
        + (", some by a language model" if written else " by rules")
        + f"{WITHOUT_PEOPLE}."
    )
    if reward.person:
        lines.append("- Style: what a person's comparisons of replies say of how they like them.")
    return "\n".join(lines)


def _settings(config: TrainConfig, base: Base, run: RunFolder) -> str:
    ppo, resolved = config.ppo, run.read_config()["resolved"]
    rows: Mapping[str, object] = {
        "base model": f"{base.shown}, weights {base.sha256[:12]}",
        "adapter": f"{config.adapter.method}, version {adapter_hash(run.adapter)[:12]}",
        "precision": resolved["dtype"],
        "seed": config.seed,
        "iterations × episodes": f"{run.iterations} × {config.episodes}",
        "estimator of advantages": ppo.estimator,
        "learning rate": ppo.learning_rate,
        "epochs × minibatches": f"{ppo.epochs} × {ppo.minibatches}",
        "beta (price of a nat of KL)": ppo.beta,
        "most tokens of a reply, of a conversation": (
            f"{config.rollout.max_new_tokens}, {config.rollout.max_tokens}"
        ),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"## Settings\n\n| setting | value |\n|---|---|\n{table}\n\n`config.json` has all of them, "
        "`versions.json` the versions of what computed it."
    )


def _limits(results: Sequence[EvaluationResult], config: TrainConfig) -> str:
    lines = [
        "Success is the verdict of a simulator, whose users are more predictable than people; "
        "nothing here was measured with people.",
        f"One run with one seed ({config.seed}): intervals tell how results vary with users, and "
        "nothing of how they vary with the seed of training.",
        "The reward says nothing of what it does not name: grammar, truth outside the records, or "
        "other languages than the simulator's.",
    ]
    if any(result.split == "dev" for result in results):
        lines.append("Results are of the dev side, on which settings may have been chosen.")
    if config.reward.model is not None or config.reward.judged:
        lines.append("A learned reward can be gamed; `metrics.jsonl` has what it did not pay for.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def use(base: Base, place: str) -> str:
    """How an adapter in such a place is used."""
    lines = ["## Use", "", "`rlchat chat FOLDER` talks to it, `rlchat eval FOLDER` measures it."]
    if base.hub_id and is_hub_id(base.hub_id):
        lines += [
            "With peft alone:",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{base.hub_id}")',
            f'model = PeftModel.from_pretrained(base, "{place}")',
            "```",
        ]
        if base.shown in CATALOGUE:
            lines += ["", "(It was trained over a quantized copy, which differs by rounding.)"]
    return "\n".join(lines)
