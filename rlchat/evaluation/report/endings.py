"""How and where dialogues end, and what was asked for where they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rlchat.evaluation.report.curves import SIZE
from rlchat.evaluation.report.dialogues import Dialogue, with_success
from rlchat.evaluation.report.elements import Figure, Section, Table, thinned
from rlchat.evaluation.report.goals import grouping_facts
from rlchat.evaluation.report.sources import Source
from rlchat.evaluation.report.svg import SERIES, drawn
from rlchat.evaluation.summary import with_interval
from rlchat.rollout.trajectory import Ending
from rlchat.statistics import by_cluster
from rlchat.statistics.intervals import interval_of_rate

_WORDS = {
    str(Ending.GOAL): "goal reached",
    str(Ending.GAVE_UP): "ended without",
    str(Ending.TURN_LIMIT): "turn limit",
    str(Ending.TOKEN_LIMIT): "token limit",
    str(Ending.CONTEXT_FULL): "context full",
    "truncated": "cut short by a limit",
    "": "not told",
}
_MOST_FACTS = 6
_MOST_TURNS = 12  # bars; what takes longer is in the last


def in_words(ending: str) -> str:
    """What people read for how an episode ended."""
    return _WORDS.get(ending, ending)


def endings(sources: Sequence[Source]) -> Section:
    """How dialogues end by iteration, and in which turn."""
    figures: list[Figure] = []
    for i, source in enumerate(sources):
        practice = [d for d in source.dialogues if d.played.iteration is not None]
        if practice:
            title = f"How dialogues end, {source.name}"
            at = [d.played.iteration or 0 for d in practice]
            figures.append(_bars(f"how{i}", title, "iteration", practice, at, True))
        own = practice or source.dialogues
        if own:
            title = f"In which turn dialogues end, {source.name}"
            turns = [min(len(d.parts), _MOST_TURNS) for d in own]
            figures.append(_bars(f"where{i}", title, "agent's turns", own, turns, False))
    notes = [] if figures else ["There are no dialogues yet."]
    return Section("endings", "Where and how dialogues end", figures=figures, notes=notes)


def _bars(
    name: str, title: str, axis: str, dialogues: Sequence[Dialogue], at: Sequence[int], share: bool
) -> Figure:
    """Stacked bars of endings at each number; as shares of the bar, or as counts."""
    kinds = [k for k in _WORDS if any(d.ending == k for d in dialogues)]
    kinds += sorted({d.ending for d in dialogues} - set(kinds))
    counts = Counter((n, d.ending) for n, d in zip(at, dialogues, strict=True))
    places = sorted(set(at))
    totals = {n: sum(counts[n, k] for k in kinds) for n in places}

    def draw(canvas: Any) -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        axes, below = canvas.subplots(), dict.fromkeys(places, 0.0)
        for kind, color in zip(kinds, SERIES * len(kinds), strict=False):
            heights = [counts[n, kind] / (totals[n] if share else 1) for n in places]
            axes.bar(places, heights, 0.8, list(below.values()), color=color)
            below = {n: below[n] + h for n, h in zip(places, heights, strict=True)}
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if share:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(False, axis="x")

    rows = [[str(n), *(str(counts[n, k]) for k in kinds)] for n in places]
    table = Table(f"{title}, dialogues", [axis, *map(in_words, kinds)], thinned(rows))
    legend = [(f"s{i % len(SERIES)}", in_words(k)) for i, k in enumerate(kinds)]
    svg = drawn(draw, f"{title}; the numbers are in the table below.", name, SIZE)
    return Figure(title, svg, legend, table)


def failures(sources: Sequence[Source]) -> Section:
    """Failures by what the user wanted and was like."""
    groups: dict[str, list[Dialogue]] = {}
    for source in sources:
        for label, own in _latest(source).items():
            groups[label if len(sources) == 1 else f"{label}, {source.name}"] = own
    everyone = [d for own in groups.values() for d in own]
    facts = grouping_facts(everyone)[:_MOST_FACTS]
    tables = [_by_fact(fact, groups) for fact in facts]
    if tables:
        about = (
            "Share of dialogues that failed, with 95% intervals; dialogues with the same user and "
            "goal count as one observation. What tells failures apart best comes first; a row's "
            "button shows its failures below."
        )
        return Section("failures", "Failures by what was asked for", about, tables=tables)
    note = "No dialogue failed, or success is not told."
    if any(d.failed for d in everyone):
        note = (
            "What was asked for is not known: it is told of rlchat's own environments with users "
            "made of rules, if they still begin as they did."
        )
    return Section("failures", "Failures by what was asked for", notes=[note])


def _latest(source: Source) -> dict[str, list[Dialogue]]:
    """The evaluated agents, or else the practice of the last quarter of the iterations."""
    evaluated: dict[str, list[Dialogue]] = {}
    for d in with_success([d for d in source.dialogues if d.played.iteration is None]):
        evaluated.setdefault(d.played.label, []).append(d)
    if evaluated:
        return evaluated
    practice = with_success(source.dialogues)
    last = max((d.played.iteration or 0 for d in practice), default=0)
    first = last - last // 4
    late = [d for d in practice if (d.played.iteration or 0) >= first]
    return {f"iterations {first} to {last}": late} if late else {}


def _by_fact(fact: str, groups: dict[str, list[Dialogue]]) -> Table:
    known = {label: [d for d in own if fact in d.facts] for label, own in groups.items()}
    values = Counter(d.facts[fact] for own in known.values() for d in own if d.failed)
    values.update(dict.fromkeys((d.facts[fact] for own in known.values() for d in own), 0))
    rows = []
    for value, _ in values.most_common():
        cells = [value]
        for own in known.values():
            same = [d for d in own if d.facts[fact] == value]
            cells.append(_failed(same) if same else "–")
        rows.append(cells)
    filters = [(fact, row[0]) for row in rows]
    return Table(f"Failures by {fact}", [fact, *known], rows, filters)


def _failed(dialogues: Sequence[Dialogue]) -> str:
    """The share that failed, with the interval of users rather than of dialogues."""
    rates = by_cluster([float(d.failed) for d in dialogues], [d.goal for d in dialogues])
    told = with_interval(interval_of_rate(rates), "{:.0%}")
    told += f", {sum(d.failed for d in dialogues)} of {len(dialogues)}"
    return told if len(rates) == len(dialogues) else f"{told}, {len(rates)} users"
