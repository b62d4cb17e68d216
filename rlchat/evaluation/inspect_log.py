"""Evaluations as logs of Inspect (inspect.aisi.org.uk), which its viewer and readers open.

The format is that of its JSON logs, version 2. Inspect itself is not needed to write one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.files import write_json
from rlchat.rollout.trajectory import Episode
from rlchat.statistics import Interval

SUCCESS, SCORE = "success", "score"
_SCORERS = {SUCCESS: "environment's verdict", SCORE: "sum of the turns' parts"}


def read_results(path: Path) -> list[EvaluationResult]:
    """The results in a JSON file: of ``rlchat eval --json``, or ``evaluation.json`` of a run.

    Raises:
        UserError: it is neither.
    """
    try:
        kept = json.loads(path.read_text("utf-8"))
        several = kept.get("environments") or kept.get("results") or [kept]
        found = [one for kept in several for one in (kept, kept.get("against")) if one is not None]
        return [EvaluationResult.from_json(one) for one in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"expected the JSON file of an evaluation (rlchat eval --json FILE, or evaluation.json "
            f"of a run); got {path}, which is none; name another"
        ) from error


def write_logs(results: list[EvaluationResult], folder: Path, made: datetime) -> list[Path]:
    """Write a log for each result.

    Args:
        results: what was measured.
        folder: where; it is made if it is not there.
        made: when it was measured.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for result in results:
        log = inspect_log(result, made)
        task = re.sub(r"[^A-Za-z0-9-]+", "-", f"{result.env.env}-{result.split}-{result.agent}")
        created = made.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S+00-00")
        paths.append(folder / f"{created}_{task.strip('-')}_{log['eval']['task_id']}.json")
        write_json(paths[-1], log)
    return paths


def inspect_log(result: EvaluationResult, made: datetime) -> dict[str, Any]:
    """One result as a log: what was asked of whom, every episode, metrics with their intervals.

    Args:
        result: of one agent in one environment.
        made: when it was measured.
    """
    when = made.astimezone(UTC).isoformat(timespec="seconds")
    count = len(result.episodes)
    task_args: dict[str, Any] = {
        "users": list(result.env.users),
        "knowledge": list(result.env.knowledge),
        "user_max_new_tokens": result.env.user_max_new_tokens,
        "split": result.split,
        "seed": result.seed,
    }
    if result.env.stated_style:
        task_args["stated_style"] = list(result.env.stated_style)
    told = [name for name in _SCORERS if name in result.metrics]
    identity = _identity(result.agent, result.env.env, json.dumps(task_args), when)
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": _identity("eval", identity),
            "run_id": _identity("run", identity),
            "task_id": identity,
            "created": when,
            "task": result.env.env,
            "task_version": 0,
            "task_args": task_args,
            "task_attribs": {},
            "dataset": {
                "name": f"{result.env.env} {result.split}",
                "samples": count,
                "sample_ids": [episode.index for episode in result.episodes],
                "shuffled": False,
            },
            "model": f"rlchat/{result.agent}",
            "model_generate_config": {"temperature": result.temperature},
            "model_args": {},
            "config": {"epochs": 1, "limit": count},
            "packages": {"rlchat": metadata.version("rlchat")},
            "metadata": {"optimum": result.optimum},
            "scorers": [{"name": name} for name in told],
        },
        "plan": {"name": "plan", "steps": [{"solver": "conversation", "params": {}}]},
        "results": {
            "total_samples": count,
            "completed_samples": count,
            "scores": [_score(result, name) for name in told],
        },
        "stats": {"started_at": when, "completed_at": when, "model_usage": {}},
        "samples": [_sample(episode, result, told) for episode in result.episodes],
    }


def _score(result: EvaluationResult, name: str) -> dict[str, Any]:
    """A scorer's metrics: its mean and the bounds of that; the score's has all others beside it.

    A success rate is called accuracy, as Inspect calls the mean of what is correct.
    """
    interval = result.metrics[name]
    metrics = {
        key: _metric(key, value, interval)
        for key, value in (
            ("accuracy" if name == SUCCESS else "mean", interval.mean),
            ("low_95", interval.low),
            ("high_95", interval.high),
        )
    }
    for other in [n for n in result.metrics if n not in _SCORERS] if name == SCORE else []:
        metrics[other] = _metric(other, result.metrics[other].mean, result.metrics[other])
    scored = [e for e in result.episodes if name == SCORE or e.success is not None]
    return {
        "name": name,
        "scorer": name,
        "scored_samples": len(scored),
        "unscored_samples": len(result.episodes) - len(scored),
        "params": {},
        "metrics": metrics,
        "metadata": {"about": _SCORERS[name]},
    }


def _metric(name: str, value: float, interval: Interval) -> dict[str, Any]:
    """A metric, with the interval that it belongs to, for which Inspect has no field of its own."""
    known = {"confidence": 0.95, **asdict(interval)}
    return {"name": name, "value": value, "params": {}, "metadata": known}


def _sample(episode: Episode, result: EvaluationResult, told: list[str]) -> dict[str, Any]:
    """An episode: the opening is the input, the conversation the messages."""
    messages = [
        _message(m.role, m.content, _identity(str(result.seed), str(episode.seed), str(i)))
        for i, m in enumerate(episode.conversation)
    ]
    said = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    opening = messages[: said[0]] if said else messages
    return {
        "id": episode.index,
        "epoch": 1,
        "input": opening or "",
        "target": "",
        "messages": messages,
        "output": _output(messages[said[-1]] if said else None, f"rlchat/{result.agent}"),
        "scores": {
            name: {"value": value}
            for name, value in ((SUCCESS, _verdict(episode)), (SCORE, episode.score))
            if name in told and value is not None
        },
        "metadata": {
            "seed": episode.seed,
            "turns": len(episode.parts),
            "parts": [dict(parts) for parts in episode.parts],
            "costs": [dict(costs) for costs in episode.costs],
            "knowledge": dict(episode.knowledge),
            **({"answers": episode.answers} if episode.answers else {}),
        },
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _verdict(episode: Episode) -> str | None:
    """Correct or incorrect, as Inspect writes it."""
    return None if episode.success is None else "C" if episode.success else "I"


def _message(role: str, content: str, identity: str) -> dict[str, Any]:
    """A message; lines of the desk are those of a tool that nobody had to call."""
    more: Mapping[str, str] = {
        "assistant": {"source": "generate"},
        "user": {"source": "input"},
        "tool": {"function": "desk"},
    }.get(role, {})
    return {"id": identity, "role": role, "content": content, **more}


def _output(last: Mapping[str, Any] | None, model: str) -> dict[str, Any]:
    """What the agent said last."""
    if last is None:
        return {"model": model, "choices": []}
    return {"model": model, "choices": [{"message": dict(last), "stop_reason": "stop"}]}


def _identity(*of: str) -> str:
    """22 letters that depend on nothing but what is given."""
    return hashlib.sha256("\n".join(of).encode()).hexdigest()[:22]
