"""The verb `judge`, and judging as a part of `eval`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rlchat.errors import UserError
from rlchat.rewards.rubric.config import JudgeConfig

if TYPE_CHECKING:
    from rich.console import Console

    from rlchat.evaluation.evaluate import EvaluationResult
    from rlchat.evaluation.judged import JudgedResult
    from rlchat.rollout.trajectory import Episode

    Rows = Sequence[Sequence[EvaluationResult]]

_PATIENCE = 20.0  # seconds after which answers are kept


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Let a language model answer questions about an evaluation's episodes, and check the judge.

    Answers are kept in the file, so that none is asked for twice. How far the judge agrees with the
    world's own verdict is told as Cohen's kappa, with its interval: a judge that does not agree is
    not to be believed where there is no verdict. Try: rlchat judge runs/demo --judge
    openai:MODEL@URL
    """

    results: Annotated[Path, tyro.conf.Positional]
    """JSON file of an evaluation: what `rlchat eval AGENT --json FILE` wrote, or a run folder,
    which has its evaluation.json."""
    judge: str
    """Language model that answers: a name of `rlchat models list`, a folder (of a model, a run or
    an adapter), a Hugging Face id, or openai:MODEL@URL."""
    rubric: str = "default"
    """Questions that are asked: default, or a YAML file."""
    against: str = ""
    """Agent of the file that all others are compared with, user by user; if empty, none."""
    json: Path | None = None
    """JSON file for results and answers; what was read is written anew with its answers if left
    out."""
    judging: JudgeConfig = field(default_factory=JudgeConfig)


def run_judge(options: JudgeOptions, console: Console) -> None:
    """Judge the evaluations in a file, show what was found, and keep the answers."""
    check_json_place(options.json)
    path = options.results
    path = path / "evaluation.json" if path.is_dir() else path
    content = _read(path)
    found = _Evaluations(content, path)
    agents = {result.agent for row in found.rows for result in row}
    if options.against and options.against not in agents:
        raise UserError(
            f"expected an agent out of {', '.join(sorted(agents))}; got --against {options.against}"
        )
    judging = Judging(options.rubric, options.judge, options.judging)
    judging.judge(found.rows, console, lambda: found.write(options.json or path))
    for judged in judging.rows(found.rows):
        show_judged(judged, options.against, console)
    for node, row in found.nodes_of_rows():
        node["rubric"] = judging.to_json(row)
    found.write(options.json or path)


def check_json_place(place: Path | None) -> None:
    """See that results can be written there, before they are worked for.

    Raises:
        UserError: it is a folder, or in none.
    """
    if place is not None and (place.is_dir() or not place.resolve().parent.is_dir()):
        raise UserError(f"expected a file in a folder that exists; got --json {place}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _no_evaluation(path) from error


def _no_evaluation(path: Path) -> UserError:
    return UserError(
        "expected the JSON file of an evaluation (rlchat eval AGENT --json FILE), or a run folder "
        f"that has one; got {path}, which is none; name another"
    )


class _Evaluations:
    """The evaluations in a file: each is judged once, wherever it stands."""

    def __init__(self, content: Any, path: Path):
        """Find them.

        Raises:
            UserError: there are none, or one is broken.
        """
        from rlchat.evaluation.evaluate import EvaluationResult

        self.content = content
        self._places: dict[str, list[dict[str, Any]]] = {}
        self._results: dict[str, EvaluationResult] = {}
        rows: dict[str, list[str]] = {}
        try:
            for node in _nodes(content):
                env = [node[key] for key in ("env", "users", "knowledge", "split", "seed")]
                env.append(node.get("stated_style", []))  # which earlier files do not have
                seeds = [episode["seed"] for episode in node["per_episode"]]
                row = json.dumps([env, seeds])
                one = json.dumps([node["agent"], row])
                self._places.setdefault(one, []).append(node)
                if one not in self._results:
                    self._results[one] = EvaluationResult.from_json(node)
                    rows.setdefault(row, []).append(one)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _no_evaluation(path) from error
        if not rows:
            raise _no_evaluation(path)
        self._rows = list(rows.values())

    @property
    def rows(self) -> list[list[EvaluationResult]]:
        """All results, those of the same users in a row."""
        return [[self._results[one] for one in row] for row in self._rows]

    def nodes_of_rows(self) -> Iterator[tuple[dict[str, Any], list[EvaluationResult]]]:
        """Of each row the place in the file that is about its first result."""
        for row, results in zip(self._rows, self.rows, strict=True):
            yield self._places[row[0]][0], results

    def write(self, path: Path) -> None:
        """Write the file with the answers that there are."""
        from rlchat.files import write_json

        for one, places in self._places.items():
            for node in places:
                pairs = zip(node["per_episode"], self._results[one].episodes, strict=True)
                for entry, episode in pairs:
                    if episode.answers:
                        entry["answers"] = episode.answers
        write_json(path, self.content)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every evaluation in what a file holds."""
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        if "per_episode" in value:
            yield value
        for key, item in value.items():
            if key != "per_episode":
                yield from _nodes(item)


class Judging:
    """A rubric and a judge, for all results of a command."""

    def __init__(self, rubric: str, judge: str, config: JudgeConfig):
        """Read the rubric, and see that the judge is there.

        Raises:
            UserError: one of them is none.
        """
        from rlchat.rewards.rubric.judges import try_judge
        from rlchat.rewards.rubric.questions import read_rubric

        self.rubric, self.name, self.config = read_rubric(rubric), judge, config
        try_judge(judge, config)
        self.identity = ""

    def judge(self, rows: Rows, console: Console, keep: Callable[[], None]) -> None:
        """Ask what was not answered yet.

        Args:
            rows: results, whose episodes get the answers.
            console: shows how it goes.
            keep: is called now and then, and when all is done or something fails.
        """
        from rlchat.cli.live.progress import Progress
        from rlchat.evaluation.judged import judge_episodes
        from rlchat.rewards.rubric.judges import load_judge

        episodes = [e for row in rows for result in row for e in result.episodes]
        with Progress(console) as progress:
            judge = load_judge(self.name, self.config, progress.say)
            self.identity = judge.identity
            count = progress.counter(f"judging by {self.name}", len(episodes))
            kept = time.monotonic()

            def judged(episode: Episode) -> None:
                nonlocal kept
                count(episode)
                if time.monotonic() - kept > _PATIENCE:
                    keep()
                    kept = time.monotonic()

            try:
                judge_episodes(episodes, self.rubric, judge, judged)
            finally:
                keep()
            if told := judge.shortened.notice():
                progress.warn(told)

    def rows(self, rows: Rows) -> list[list[JudgedResult]]:
        """Results with what was answered."""
        from rlchat.evaluation.judged import JudgedResult

        return [[JudgedResult(r, self.rubric, self.identity) for r in row] for row in rows]

    def to_json(self, row: Sequence[EvaluationResult]) -> dict[str, Any]:
        """What was found in one environment, for a file."""
        from rlchat.evaluation.judged import rubric_to_json

        return rubric_to_json(self.rows([row])[0])


def show_judged(row: Sequence[JudgedResult], against: str, console: Console) -> None:
    """Print what a judge said in one environment, and how far that is to be believed."""
    from rlchat.cli.analysis.rubric_tables import (
        agreement_table,
        judged_differences,
        judged_table,
        missing_lines,
        undefined_lines,
    )
    from rlchat.evaluation.judged import agreements

    console.print(judged_table(row))
    for base in [one for one in row if one.result.agent == against][:1]:
        for one in row:
            if one is not base:
                console.print(judged_differences(one, base))
    for line in missing_lines(row):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    found = agreements(row)
    if any(found.values()):
        console.print(agreement_table(row[0], found))
    lines = list(undefined_lines(row[0], found))
    if not found:
        lines = [
            "No question of this rubric is compared with the world's verdict (agrees_with): "
            "nothing here says whether the judge is right."
        ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
