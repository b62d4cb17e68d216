"""Verbs `reward …`: preferences collected, reward models trained, reported on, used."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from rlchat import files
from rlchat.cli.progress import Progress
from rlchat.cli.terminal import say
from rlchat.errors import UserError
from rlchat.evaluation.summary import with_interval
from rlchat.feedback.export import stored_preferences
from rlchat.models.device import DTypeName
from rlchat.rewards.loading import load_scorer
from rlchat.rewards.preference_data import _rated, _simulated, read_file
from rlchat.rewards.training import _some, _trained
from rlchat.rollout.branching import BranchConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.conversations import read_conversations
from rlchat.settings import SEEDS, expect
from rlchat.statistics import wilson
from rlchat_reward_models.calibration import fit_temperature
from rlchat_reward_models.evaluation import PreferenceEvaluation, evaluate_preferences
from rlchat_reward_models.preferences import Preference, preference, tidy
from rlchat_reward_models.scorer import Scale, parts_of
from rlchat_reward_models.splits import by_split
from rlchat_reward_models.training import RewardModelTraining


@dataclass(frozen=True)
class BuildOptions:
    """Collect preferences from simulators, people's ratings and files, in trl's format."""

    out: Path = Path("preferences.jsonl")
    """Where they go: JSON lines of prompt, chosen, rejected, weight, source, turn, dialogue."""
    simulate: bool = True
    """Compare sampled replies in simulated conversations by what becomes of them."""
    chitchat: bool = False
    """Add people's ratings of their conversations; needs pip install 'rlchat[people]'."""
    people: bool = False
    """Add what people chose and edited in rlchat chat."""
    file: tuple[Path, ...] = ()
    """Add files in any of trl's preference formats."""
    env: str = "rlchat/Support-v0"
    """Environment of the simulated conversations."""
    users: str = ""
    """Families of users, comma-separated; the usual ones if none is named."""
    split: Literal["train", "dev", "test"] = "train"
    """Split that goals come from."""
    speaker: str = "demonstrator"
    """Agent whose replies are compared: a run folder, or a name as for `rlchat eval`."""
    follower: str = ""
    """Agent that goes on after a reply, to the end; the speaker if none is named."""
    policy: str = "smollm2-135m"
    """The model that `base` stands for."""
    seed: int = 0
    """Decides conversations, replies and continuations."""
    branches: BranchConfig = field(default_factory=BranchConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "seed", 0 <= self.seed < SEEDS, f"of at least 0 and below {SEEDS}")
        if not (self.simulate or self.chitchat or self.people or self.file):
            raise UserError("expected a source of preferences; got none; leave --no-simulate out")
        if self.branches.whole and self.follower:
            raise UserError(
                "expected no follower where whole conversations are compared; got "
                f"{self.follower}; leave --follower or --branches.whole out"
            )


def run_build(options: BuildOptions, console: Console) -> None:
    """Collect, tidy and write preferences, and say how many there are of which kind."""
    files.check_place(options.out)
    found: list[Preference] = []
    for path in options.file:
        found += read_file(path)
    if options.people:
        found += [preference(row, row["dialogue"]) for row in stored_preferences()]
    if options.chitchat:
        found += _rated(options.seed)
    if options.simulate:
        with Progress(console) as progress:
            found += _simulated(options, progress)
    tidied = tidy(found)
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


@dataclass(frozen=True)
class TrainOptions:
    """Train a reward model on preferences; held-out dialogues are never trained on."""

    preferences: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of `rlchat reward build`, or in any of trl's preference formats."""
    out: Path = Path("runs/reward")
    """Folder for the reward model."""
    backbone: str = "minilm-l6"
    """What encodes the text: minilm-l6, an encoder's Hugging Face id or folder, or a language
    model, which then gets an adapter."""
    heads: int = 4
    """Heads of the ensemble, whose disagreement is subtracted from the score."""
    uncertainty_penalty: float = 0.5
    """How much of the standard deviation of the heads' scores is subtracted."""
    max_tokens: int = 192
    """Tokens of a context and a reply together, at most."""
    most: int = 2000
    """Contexts trained on, at most, with all their replies: that bounds the time. Where much hangs
    on the reply they are likelier to be drawn."""
    seed: int = 0
    """Decides initial weights and order."""
    dtype: DTypeName = "auto"
    """Precision of the products; auto measures what is faster."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    training: RewardModelTraining = field(default_factory=RewardModelTraining)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("heads", "most"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        expect(self, "uncertainty_penalty", self.uncertainty_penalty >= 0, "of at least 0")
        expect(self, "max_tokens", self.max_tokens >= 32, "of at least 32")


def run_train(options: TrainOptions, console: Console) -> None:
    """Train, calibrate, write, and report on held-out dialogues."""
    if options.out.exists():
        raise UserError(f"expected a new folder; {options.out} exists; name another with --out")
    files.check_place(options.out)
    tidied = tidy(p for path in options.preferences for p in read_file(path))
    learn, calibrate, held_out = by_split(tidied.preferences).values()
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
    margins = evaluate_preferences(scorer, calibrate).margins
    temperature = fit_temperature(margins, [1.0] * len(margins))
    scorer.rescale(Scale(temperature, uncertainty_penalty=options.uncertainty_penalty))
    scorer.normalize([(p.prompt, reply) for p in learn[:500] for reply in (p.chosen, p.rejected)])
    with files.atomic_folder(options.out) as folder:
        scorer.save(folder)
    say(console, f"trained in {spent / 60:.1f} minutes; written to {options.out}")
    _report(evaluate_preferences(scorer, held_out), console)


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
    """Score preferences, and print accuracy, calibration and the largest errors."""
    scorer = load_scorer(options.model)
    tidied = tidy(p for path in options.preferences for p in read_file(path))
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
    parts = [parts_of(c, scorer.granularity) for c in conversations]
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
