"""Verbs `eval` and `eval inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat import files
from rlchat.cli.analysis.judge import Judging, check_json_place, show_judged
from rlchat.cli.live.progress import Progress
from rlchat.cli.options import EvalOptions, InspectOptions
from rlchat.cli.tables import difference_table, results_table, style_table
from rlchat.errors import UserError
from rlchat.evaluation.blocks import Where
from rlchat.evaluation.evaluate import EvaluationResult, difference, discordance, p_value
from rlchat.evaluation.inspect_log import read_results, write_logs
from rlchat.evaluation.kept import KeptEpisodes
from rlchat.evaluation.matrix import MatrixConfig, evaluate_matrix, with_styles, with_users
from rlchat.evaluation.stated_style import style_rows
from rlchat.evaluation.summary import with_interval
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.probe import probe
from rlchat.settings import names
from rlchat.statistics.power import episodes_needed
from rlchat.statistics.significance import holm

Row = list[EvaluationResult]
USUAL = "default"
UNSTATED = "none"


def run_evaluation(options: EvalOptions, console: Console) -> None:
    """Evaluate agents in every environment and with all users that were named."""
    check_json_place(options.json)
    judging = None
    if options.rubric:
        judging = Judging(options.rubric, options.judge, options.judging)
    families = [() if name == USUAL else names(name) for name in options.each_users]
    styles = [() if name == UNSTATED else names(name) for name in options.each_style]
    envs = with_styles(with_users(options.envs_of(options.agent), families), styles)
    for env in envs:
        probe(env, options.rollout, options.split)
    config = MatrixConfig(
        options,
        options.until_width,
        options.processes,
        options.out,
        options.policy,
        options.adapter,
        options.against,
    )
    with Progress(console) as progress:
        played = evaluate_matrix(options.agents, envs, config, progress)
    rows = [[result for result in row if result is not None] for row in played]
    corrected = p_values(rows, options)
    for row in rows:
        _show(row, corrected, options, console)
    if len(rows) > 1:
        console.print(matrix_table(rows, options.agents))
    followed = style_rows(result for row in rows for result in row)
    if followed:
        console.print(style_table(followed))
    if judging is not None:
        judge_rows(judging, rows, options, console)
    if options.power:
        _tell_power(rows, options, console)
    if options.json is not None:
        answers = [_to_json(row, corrected, options) for row in rows]
        if judging is not None:
            for answer, row in zip(answers, rows, strict=True):
                answer["rubric"] = judging.to_json(row)
        told = {"environments": answers} if len(answers) > 1 else answers[0]
        styles_told = {"styles": [row.to_json() for row in followed]} if followed else {}
        files.write_json(options.json, told | styles_told)


def _show(row: Row, corrected: dict[str, float], options: EvalOptions, console: Console) -> None:
    """Print what was measured in one environment."""
    console.print(results_table(row))
    if options.until_width and len(row[0].episodes) == options.episodes * options.trials:
        console.print(
            f"All {options.episodes} users were met, perhaps before --until-width was reached; "
            "--episodes allows more.",
            highlight=False,
        )
    for result, other in compared(row, options):
        console.print(difference_table(result.agent, other.agent, difference(result, other)))
        told = f"p = {p_value(result, other):.3g}"
        if len(corrected) > 1:
            told += f"; {corrected[name_of(result)]:.3g} among all {len(corrected)} (Holm)"
        console.print(told, highlight=False)


def judge_rows(
    judging: Judging, rows: Sequence[Row], options: EvalOptions, console: Console
) -> None:
    """Let a judge answer about all episodes, and print what it says and how far it is right."""
    kept = None if options.out is None else KeptEpisodes(options.out)

    def keep() -> None:
        for result in (result for row in rows for result in row):
            if kept is not None:
                where = Where(result.agent, result.env, options, options.policy, options.adapter)
                kept.add_answers(where, result.episodes)

    judging.judge(rows, console, keep)
    for judged in judging.rows(rows):
        show_judged(judged, options.against, console)


def compared(row: Row, options: EvalOptions) -> list[tuple[EvaluationResult, EvaluationResult]]:
    """Each result beside that of the agent that all are compared with, if both are there."""
    other = next((r for r in row if r.agent == options.against), None)
    return [] if other is None else [(r, other) for r in row if r is not other]


def p_values(rows: Sequence[Row], options: EvalOptions) -> dict[str, float]:
    """P-values of all comparisons of the call, corrected for one another (Holm)."""
    pairs = [pair for row in rows for pair in compared(row, options)]
    return holm({name_of(result): p_value(result, other) for result, other in pairs})


def name_of(result: EvaluationResult) -> str:
    """The name of a result among those of a call."""
    return f"{result.agent} in {column_of(result.env)}"


def column_of(env: EnvConfig) -> str:
    """An environment, its users and the style that it states."""
    style = f"style {'+'.join(env.stated_style)}" if env.stated_style else ""
    return ", ".join(filter(None, (env.env, "+".join(env.users), style)))


def matrix_table(rows: Sequence[Row], agents: Sequence[str]) -> Table:
    """Success, or the score where none is told; an agent that is not there has a dash."""
    table = Table("environment, users", caption="success (or score), mean [95% interval]")
    for agent in agents:
        table.add_column(Text(agent))
    for row in rows:
        known = {result.agent: result for result in row}
        cells = [_cell(known[a]) if a in known else "–" for a in agents]
        table.add_row(column_of(row[0].env), *cells)
    return table


def _cell(result: EvaluationResult) -> str:
    metrics = result.metrics
    if "success" in metrics:
        return with_interval(metrics["success"], "{:.0%}")
    return with_interval(metrics["score"], "{:+.2f}")


def _tell_power(rows: Sequence[Row], options: EvalOptions, console: Console) -> None:
    """Say how many episodes a difference needs, given what was seen."""
    d = options.power
    for row in rows:
        if any("success" not in r.metrics for r in row):
            console.print(f"{column_of(row[0].env)} tells no success: --power says nothing there.")
            continue
        pairs = compared(row, options)
        for result, other in pairs:
            share = discordance(result, other)
            console.print(
                f"{name_of(result)}: a difference to {other.agent} of {d:.0%} needs "
                f"{episodes_needed(d, share)} episodes (it and the other disagreed on {share:.0%} "
                f"of {_users(result)} users).",
                highlight=False,
            )
        for result in () if pairs else row:
            rate = result.metrics["success"].mean
            share = 2 * rate * (1 - rate)
            console.print(
                f"{name_of(result)}: a difference of {d:.0%} to another agent needs about "
                f"{episodes_needed(d, share)} episodes, if it fails on other users; --against "
                "NAME says it of two agents.",
                highlight=False,
            )


def _users(result: EvaluationResult) -> int:
    return len({episode.seed for episode in result.episodes})


def _to_json(row: Row, corrected: dict[str, float], options: EvalOptions) -> dict[str, Any]:
    """What was measured in one environment: as ever for one agent, and all of several."""
    answer = row[0].to_json()
    pairs = compared(row, options)
    for result, other in pairs[:1]:
        answer["against"] = other.to_json()
        answer["difference"] = {k: asdict(v) for k, v in difference(result, other).items()}
        answer["p_value"] = p_value(result, other)
    if len(row) > (2 if pairs else 1):
        answer["agents"] = [result.to_json() for result in row]
        answer["differences"] = [
            {
                "agent": result.agent,
                "against": other.agent,
                "p_value": p_value(result, other),
                "p_value_holm": corrected[name_of(result)],
                **{k: asdict(v) for k, v in difference(result, other).items()},
            }
            for result, other in pairs
        ]
    return answer


def run_inspect(options: InspectOptions, console: Console) -> None:
    """Write an evaluation as logs of Inspect."""
    results = read_results(options.results)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"expected a folder after --out; {options.out} is a file; name another")
    made = datetime.fromtimestamp(options.results.stat().st_mtime, UTC)
    for path in write_logs(results, options.out, made):
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    last = f"Look at them:  inspect view --log-dir {options.out}"
    console.print(last, highlight=False, markup=False, soft_wrap=True)
