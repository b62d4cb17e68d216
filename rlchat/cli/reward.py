"""Verbs `reward …`: preferences collected, reward models trained, reported on, used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlchat import files
from rlchat.cli.live.progress import Progress
from rlchat.cli.options import (
    RewardBuildOptions,
    RewardReportOptions,
    RewardScoreOptions,
    RewardTrainOptions,
)
from rlchat.cli.terminal import say
from rlchat.errors import UserError
from rlchat.evaluation.summary import with_interval
from rlchat.rewards.loading import load_scorer
from rlchat.rewards.preference_data import collect_preferences, read_file
from rlchat.rewards.training import train_reward_model
from rlchat.rollout.conversations import read_conversations
from rlchat.statistics import wilson
from rlchat_envs.core.messages import to_row
from rlchat_reward_models.evaluation import PreferenceEvaluation, evaluate_preferences
from rlchat_reward_models.preferences import Preference, tidy
from rlchat_reward_models.scorer import parts_of
from rlchat_reward_models.splits import by_split


def run_build(options: RewardBuildOptions, console: Console) -> None:
    """Collect, tidy and write preferences, and say how many there are of which kind."""
    files.check_place(options.out)
    with Progress(console) as progress:
        tidied = collect_preferences(options, progress)
    lines = [json.dumps(p.to_json(), ensure_ascii=False) + "\n" for p in tidied.preferences]
    files.write_text(options.out, "".join(lines))
    console.print(_counted(tidied.preferences))
    say(
        console,
        f"left out: {tidied.ties} ties, {tidied.duplicates} duplicates; "
        f"{tidied.contradictions} pairs contradicted one another and were weighed",
    )
    say(console, f"Written to {options.out}. Train on it:  rlchat reward train {options.out}")


def _counted(preferences: Sequence[Preference]) -> Table:
    table = Table("source", "preferences", "clear", "held out", "dialogues", box=None)
    groups: dict[str, list[Preference]] = {}
    for p in preferences:
        groups.setdefault(p.source, []).append(p)
    for source, group in groups.items():
        clear, held = sum(p.clear for p in group), sum(p.held_out for p in group)
        dialogues = len({p.dialogue for p in group})
        cells = (len(group), f"{clear / len(group):.0%}", held, dialogues)
        table.add_row(source, *map(str, cells))
    return table


def run_train(options: RewardTrainOptions, console: Console) -> None:
    """Train, calibrate, write, and report on held-out dialogues."""
    if options.out.exists():
        raise UserError(f"expected a new folder; {options.out} exists; name another with --out")
    files.check_place(options.out)
    with Progress(console) as progress:
        preferences = [p for path in options.preferences for p in read_file(path, progress)]
        trained = train_reward_model(preferences, options, progress)
    with files.atomic_folder(options.out) as folder:
        trained.scorer.save(folder)
    say(console, f"trained in {trained.seconds / 60:.1f} minutes; written to {options.out}")
    _report(evaluate_preferences(trained.scorer, trained.held_out), console)


def run_report(options: RewardReportOptions, console: Console) -> None:
    """Score preferences, and print accuracy, calibration and the largest errors."""
    scorer = load_scorer(options.model)
    with Progress(console) as progress:
        tidied = tidy(p for path in options.preferences for p in read_file(path, progress))
    chosen = tidied.preferences if options.all else by_split(tidied.preferences)["held-out"]
    if not chosen:
        raise UserError("expected preferences of held-out dialogues; got none; give --all")
    found = evaluate_preferences(scorer, chosen)
    _report(found, console, options.errors)
    if options.json is not None:
        files.write_json(options.json, [_numbers(name, own) for name, own in _groups(found)])
    if options.plot is not None:
        _plot(found, options.plot)


def _groups(found: PreferenceEvaluation) -> list[tuple[str, PreferenceEvaluation]]:
    groups = found.sources()
    return groups if len(groups) == 1 else [*groups, ("all", found)]


def _numbers(name: str, found: PreferenceEvaluation) -> dict[str, Any]:
    """One source's numbers, for a table or a file."""
    clear = found.clear
    accuracy = wilson(sum(found.correct), len(found.correct))
    on_clear = wilson(sum(clear.correct), len(clear.correct))
    return {
        "source": name,
        "preferences": len(found.correct),
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "clear_share": len(clear.correct) / len(found.correct),
        "clear_accuracy": on_clear.mean,
        "clear_low": on_clear.low,
        "clear_high": on_clear.high,
        "calibration_error": found.calibration_error,
        "length_correlation": found.length_correlation,
        "outcome_correlation": found.outcome_correlation,
    }


def _report(found: PreferenceEvaluation, console: Console, errors: int = 0) -> None:
    table = Table(
        *("source", "preferences", "accuracy", "clear", "accuracy on them"),
        *("ECE", "with length", "with outcome"),
        box=None,
    )
    for name, own in _groups(found):
        clear = own.clear
        outcome = own.outcome_correlation
        table.add_row(
            name,
            str(len(own.correct)),
            with_interval(wilson(sum(own.correct), len(own.correct)), "{:.1%}"),
            f"{len(clear.correct) / len(own.correct):.0%}",
            with_interval(wilson(sum(clear.correct), len(clear.correct)), "{:.1%}"),
            f"{own.calibration_error:.1%}",
            f"{own.length_correlation:+.2f}",
            "" if outcome is None else f"{outcome:+.2f}",
        )
    console.print(table)
    for p, margin in found.worst(errors):
        say(console, f"\nprefers the wrong one by {-margin:.1f} (difference {p.difference}):")
        for mark, said in (("…", p.prompt[-3:]), ("+", p.chosen), ("-", p.rejected)):
            for m in said:
                say(console, f"  {mark} {m.role}: {m.content[:300]}")


def _plot(found: PreferenceEvaluation, path: Path) -> None:
    """Accuracy over confidence, with the diagonal of perfect calibration."""
    files.check_place(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "expected matplotlib for a plot; it is not installed; pip install matplotlib"
        ) from error
    figure = Figure(figsize=(4, 4), layout="tight")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="0.7")
    groups = found.bins
    sizes = [8 + 200 * b.count / len(found.correct) for b in groups]
    axes.scatter([b.confidence for b in groups], [b.accuracy for b in groups], s=sizes)
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"ECE {found.calibration_error:.1%}")
    figure.savefig(path)


def run_score(options: RewardScoreOptions, console: Console) -> None:
    """Score conversations of a file, and write or print the scores."""
    if options.out is not None:
        files.check_place(options.out)
    scorer = load_scorer(options.model)
    with Progress(console) as progress:
        conversations = read_conversations(options.data, progress)
    parts = [parts_of(c, scorer.granularity) for c in conversations]
    scores = iter(scorer.score([part for own in parts for part in own]))
    rows = []
    for conversation, own in zip(conversations, parts, strict=True):
        rows.append((to_row(conversation), [round(next(scores), 3) for _ in own]))
    lines = [json.dumps({**row, "scores": own}, ensure_ascii=False) for row, own in rows]
    if options.out is not None:
        files.write_text(options.out, "".join(f"{line}\n" for line in lines))
        say(console, f"{len(rows)} conversations written to {options.out}")
        return
    for conversation, (_, given) in zip(conversations, rows, strict=True):
        replies = sum(m.role == "assistant" for m in conversation)
        leads = [*("     " for _ in range(replies - len(given))), *(f"{s:+.2f}" for s in given)]
        left = iter(leads)  # the score of a whole one stands at its last reply
        for m in conversation:
            lead = next(left) if m.role == "assistant" else "     "
            say(console, f"{lead}  {m.role}: {m.content}")
        say(console, "")
