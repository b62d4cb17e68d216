"""What the verbs `reward train|score|report` do: preferences in, a reward model out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from rlchat import files
from rlchat.cli.progress import Progress
from rlchat.cli.tables import with_interval
from rlchat.cli.terminal import say
from rlchat.errors import UserError
from rlchat.models.device import DTypeName, choose_device, choose_dtype
from rlchat.rewards.loading import load_scorer, open_trunk
from rlchat.rewards.preference_data import read_file
from rlchat.rollout.conversations import read_conversations
from rlchat.settings import expect
from rlchat.statistics import wilson
from rlchat_reward_models.calibration import fit_temperature
from rlchat_reward_models.judge import Judge
from rlchat_reward_models.learned import LearnedScorer, Scale, Settings, Span, parts_of
from rlchat_reward_models.preferences import Preference, sides, tidy
from rlchat_reward_models.reading import Reader
from rlchat_reward_models.report import Judged, judge_all
from rlchat_reward_models.training import JudgeTraining, train_judge


@dataclass(frozen=True)
class TrainOptions:
    """Train a reward model on preferences; held-out dialogues are never trained on."""

    preferences: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of `rlchat reward build`, or in any of trl's preference formats."""
    out: Path = Path("runs/reward")
    """Folder for the reward model."""
    trunk: str = "minilm-l6"
    """What reads: minilm-l6, an encoder's Hugging Face id or folder, or a language model, which
    then gets an adapter."""
    heads: int = 4
    """Opinions, whose disagreement is taken off the score."""
    caution: float = 0.5
    """How much of their standard deviation is taken off."""
    max_tokens: int = 192
    """Read of a context and a reply."""
    most: int = 2000
    """Contexts trained on, at most, with all their replies: that bounds the time. Where much hangs
    on the reply they are likelier to be drawn."""
    seed: int = 0
    """Decides initial weights and order."""
    dtype: DTypeName = "auto"
    """Precision of the products; auto measures what is faster."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    training: JudgeTraining = field(default_factory=JudgeTraining)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("heads", "most"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "caution", self.caution >= 0, "of at least 0")
        expect(self, "max_tokens", self.max_tokens >= 32, "of at least 32")


def run_train(options: TrainOptions, console: Console) -> None:
    """Train, calibrate, write, and report on held-out dialogues."""
    if options.out.exists():
        raise UserError(f"expected a new folder; {options.out} exists; name another with --out")
    files.check_place(options.out)
    tidied = tidy(p for path in options.preferences for p in read_file(path))
    learn, calibrate, held_out = sides(tidied.preferences).values()
    if len(learn) < 2 or not calibrate or not held_out:
        raise UserError(
            f"expected preferences from enough dialogues to train, calibrate and test on; got "
            f"{len(learn)}, {len(calibrate)} and {len(held_out)}; collect more"
        )
    learn = _some(learn, options.most, options.seed)
    began = time.monotonic()
    with Progress(console) as progress:
        progress.say(f"training on {len(learn)} preferences")
        scorer = _trained(options, learn, progress)
    spent = time.monotonic() - began
    margins = judge_all(scorer, calibrate).margins
    scorer.rescale(Scale(fit_temperature(margins, [1.0] * len(margins)), caution=options.caution))
    scorer.normalise([(p.prompt, side) for p in learn[:500] for side in (p.chosen, p.rejected)])
    with files.atomic_folder(options.out) as folder:
        scorer.save(folder)
    say(console, f"trained in {spent / 60:.1f} minutes; written to {options.out}")
    _report(judge_all(scorer, held_out), console)


def _some(preferences: Sequence[Preference], most: int, seed: int) -> list[Preference]:
    """Those of so many contexts, drawn with odds of the largest weight in each.

    Most moments of a conversation are of little consequence, and a judge that reads them all
    evenly learns manners before it learns what is right.
    """
    weights: dict[object, float] = {}
    for p in preferences:
        weights[p.context] = max(p.weight, weights.get(p.context, 0.0))
    if len(weights) <= most:
        return list(preferences)
    odds = np.array(list(weights.values()))
    drawn = np.random.default_rng(seed).choice(len(odds), most, replace=False, p=odds / odds.sum())
    contexts = list(weights)
    chosen = {contexts[i] for i in drawn}
    return [p for p in preferences if p.context in chosen]


def _trained(
    options: TrainOptions, learn: Sequence[Preference], progress: Progress
) -> LearnedScorer:
    torch.manual_seed(options.seed)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    trunk, tokenizer, adapted = open_trunk(options.trunk, options.seed, progress.say)
    reader = Reader(tokenizer, options.max_tokens)
    judge = Judge(trunk, reader.encoder, options.heads, options.seed)
    torch.nn.Module.to(judge, device)

    show_share = progress.share("reward model")

    def report(row: Mapping[str, float]) -> None:
        show_share(row["done"], f"loss {row['loss']:.3f}")

    half = dtype != torch.float32
    train_judge(judge, reader, learn, options.training, half, options.seed, report)
    whole = sum(len(p.chosen) > 1 for p in learn) > len(learn) / 2
    span: Span = "conversation" if whole else "turn"
    settings = Settings(options.trunk, adapted, options.heads, options.max_tokens, Scale(), span)
    scorer = LearnedScorer(judge, reader, settings)
    scorer.dtype = dtype
    return scorer


@dataclass(frozen=True)
class ReportOptions:
    """Say how far a reward model can be trusted."""

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a reward model."""
    preferences: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of preferences; of those, held-out dialogues only, unless --all."""
    all: bool = False
    """Of every dialogue: right for a file that the model was not trained on."""
    plot: Path | None = None
    """Write a calibration plot there (.png or .svg; needs matplotlib)."""
    json: Path | None = None
    """Write the numbers there."""
    errors: int = 3
    """Largest errors to show."""


def run_report(options: ReportOptions, console: Console) -> None:
    """Judge preferences, and print accuracy, calibration and the largest errors."""
    scorer = load_scorer(options.model)
    tidied = tidy(p for path in options.preferences for p in read_file(path))
    chosen = tidied.preferences if options.all else sides(tidied.preferences)["held-out"]
    if not chosen:
        raise UserError("expected preferences of held-out dialogues; got none; give --all")
    judged = judge_all(scorer, chosen)
    _report(judged, console, options.errors)
    if options.json is not None:
        files.write_json(options.json, [_numbers(name, j) for name, j in _groups(judged)])
    if options.plot is not None:
        _plot(judged, options.plot)


def _groups(judged: Judged) -> list[tuple[str, Judged]]:
    groups = judged.sources()
    return groups if len(groups) == 1 else [*groups, ("all", judged)]


def _numbers(name: str, judged: Judged) -> dict[str, Any]:
    """One source's numbers, for a table or a file."""
    clear = judged.clear
    accuracy = wilson(sum(judged.right), len(judged.right))
    on_clear = wilson(sum(clear.right), len(clear.right))
    return {
        "source": name,
        "preferences": len(judged.right),
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "clear_share": len(clear.right) / len(judged.right),
        "clear_accuracy": on_clear.mean,
        "clear_low": on_clear.low,
        "clear_high": on_clear.high,
        "calibration_error": judged.calibration_error,
        "length_correlation": judged.length_correlation,
        "outcome_correlation": judged.outcome_correlation,
    }


def _report(judged: Judged, console: Console, errors: int = 0) -> None:
    table = Table(
        *("source", "preferences", "accuracy", "clear", "accuracy on them"),
        *("ECE", "with length", "with outcome"),
        box=None,
    )
    for name, own in _groups(judged):
        clear = own.clear
        outcome = own.outcome_correlation
        table.add_row(
            name,
            str(len(own.right)),
            with_interval(wilson(sum(own.right), len(own.right)), "{:.1%}"),
            f"{len(clear.right) / len(own.right):.0%}",
            with_interval(wilson(sum(clear.right), len(clear.right)), "{:.1%}"),
            f"{own.calibration_error:.1%}",
            f"{own.length_correlation:+.2f}",
            "" if outcome is None else f"{outcome:+.2f}",
        )
    console.print(table)
    for p, margin in judged.worst(errors):
        say(console, f"\nprefers the wrong one by {-margin:.1f} (difference {p.difference}):")
        for mark, said in (("…", p.prompt[-3:]), ("+", p.chosen[:1]), ("-", p.rejected[:1])):
            for m in said:
                say(console, f"  {mark} {m.role}: {m.content[:300]}")


def _plot(judged: Judged, path: Path) -> None:
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
    groups = judged.bins
    sizes = [8 + 200 * b.count / len(judged.right) for b in groups]
    axes.scatter([b.confidence for b in groups], [b.accuracy for b in groups], s=sizes)
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"ECE {judged.calibration_error:.1%}")
    figure.savefig(path)


@dataclass(frozen=True)
class ScoreOptions:
    """Score the replies in conversations from a file, or each as a whole, as the model learned."""

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a reward model."""
    data: Annotated[Path, tyro.conf.Positional]
    """JSON lines of {"messages": [{"role", "content"}, …]}."""
    out: Path | None = None
    """Write the lines there with "scores" added; printed if it is not given."""


def run_score(options: ScoreOptions, console: Console) -> None:
    """Score conversations."""
    if options.out is not None:
        files.check_place(options.out)
    scorer, conversations = load_scorer(options.model), read_conversations(options.data)
    parts = [parts_of(c, scorer.span) for c in conversations]
    scores = iter(scorer.score([part for own in parts for part in own]))
    rows = []
    for conversation, own in zip(conversations, parts, strict=True):
        messages = [{"role": m.role, "content": m.content} for m in conversation]
        rows.append((messages, [round(next(scores), 3) for _ in own]))
    lines = [
        json.dumps({"messages": messages, "scores": own}, ensure_ascii=False)
        for messages, own in rows
    ]
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
