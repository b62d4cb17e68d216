"""A judge's answers as tables, and how far it agrees with the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from rlchat.evaluation.judged import JudgedResult
from rlchat.evaluation.summary import with_interval
from rlchat.rewards.rubric.config import RUBRIC
from rlchat.statistics import Interval
from rlchat.statistics.agreement import Agreement


@dataclass(frozen=True)
class _Line:
    """How a question's numbers are written."""

    told: str
    form: str


def _lines(judged: JudgedResult) -> dict[str, _Line]:
    """The lines of a table, by question."""
    found = {
        q.name: _Line(
            f"{q.name} ({f'1 to {q.top}, ' if q.top else ''}good: {q.good})",
            "{:.1f}" if q.top else "{:.0%}",
        )
        for q in judged.rubric.questions
    }
    return found | {RUBRIC: _Line("rubric (0 to 1)", "{:.2f}")}


def judged_table(row: Sequence[JudgedResult]) -> Table:
    """One line a question: how often the answer was yes, or the mean number, for each agent."""
    first = row[0]
    env = first.result.env
    users = f", users {'+'.join(env.users)}" if env.users else ""
    style = f", style {'+'.join(env.stated_style)}" if env.stated_style else ""
    table = Table(
        "question",
        title=Text(f"{env.env}{users}{style}, judged by {first.identity}"),
        caption="share of yes, or mean of a scale [95% interval]",
    )
    for one in row:
        table.add_column(Text(one.result.agent))
    metrics = [one.metrics for one in row]
    for name, line in _lines(first).items():
        table.add_row(Text(line.told), *(_cell(found.get(name), line.form) for found in metrics))
    return table


def judged_differences(one: JudgedResult, other: JudgedResult) -> Table:
    """Paired differences of two agents."""
    title = f"{one.result.agent} minus {other.result.agent}, same episodes"
    table = Table("question", "difference", title=Text(title))
    found, lines = one.minus(other), _lines(one)
    for name, interval in found.items():
        form = lines[name].form.replace("{:", "{:+")
        table.add_row(Text(lines[name].told), with_interval(interval, form))
    return table


def agreement_table(first: JudgedResult, found: Mapping[str, Agreement | None]) -> Table:
    """How far the judge agrees with the world's verdict, a column for each question."""
    known = [(q, own) for q in first.rubric.questions if (own := found.get(q.name)) is not None]
    table = Table(
        "",
        *(question.name for question, _ in known),
        title="The judge beside the world's own verdict",
        caption="[95% interval]; sensitivity: good episodes that are called good; specificity: bad "
        "ones that are called bad",
    )
    table.add_row("the world's verdict", *(str(question.verdict) for question, _ in known))
    table.add_row("episodes", *(str(own.count) for _, own in known))
    table.add_row("Cohen's kappa", *(_cell(own.kappa, "{:+.2f}") for _, own in known))
    table.add_row("agreement", *(_cell(own.raw, "{:.0%}") for _, own in known))
    table.add_row("sensitivity", *(_cell(own.sensitivity, "{:.0%}") for _, own in known))
    table.add_row("specificity", *(_cell(own.specificity, "{:.0%}") for _, own in known))
    return table


def undefined_lines(first: JudgedResult, found: Mapping[str, Agreement | None]) -> Iterator[str]:
    """Say why there is no kappa where there is none."""
    for question in first.rubric.questions:
        if question.verdict is None:
            continue
        if (own := found[question.name]) is None:
            yield (
                f"{question.name}: {first.result.env.env} tells nothing called "
                f"{question.verdict.name}, so the judge is not checked there."
            )
        elif own.kappa is None:
            yield (
                f"{question.name}: kappa is undefined, as {own.undefined}; agreement cannot be "
                "told from chance."
            )


def missing_lines(row: Sequence[JudgedResult]) -> Iterator[str]:
    """Say which answers are missing."""
    for one in row:
        count = len(one.result.episodes)
        for name, (unreadable, absent) in one.missing.items():
            told = f"{one.result.agent}, {name}: of {count} answers "
            parts = [f"{unreadable} could not be read"] * bool(unreadable)
            parts += [f"{absent} were not given"] * bool(absent)
            yield told + " and ".join(parts) + "; they are left out."


def _cell(interval: Interval | None, form: str) -> str:
    return "–" if interval is None else with_interval(interval, form)
