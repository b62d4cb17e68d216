"""Verb `explain`: an episode of a run turn by turn, and why its agent said what it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat import files
from rlchat.cli.config_file import default_options
from rlchat.cli.explain.options import ExplainOptions
from rlchat.cli.explain.shading import legend, shaded
from rlchat.cli.live.progress import Progress
from rlchat.cli.tables import ending, label, parts_line, spoken
from rlchat.cli.terminal import printable, say
from rlchat.errors import UserError
from rlchat.evaluation.attribution.messages import Dependence, agent_turns, dependences
from rlchat.evaluation.summary import with_interval
from rlchat.listener import Listener
from rlchat.statistics import Interval
from rlchat.training.config import TrainConfig
from rlchat.training.inspection.counterfactuals import WhatIf, what_if
from rlchat.training.inspection.episodes import Episodes, played, recorded
from rlchat.training.inspection.explanation import (
    ExplainedEpisode,
    ExplainedTurn,
    TokenNumbers,
    explain_episode,
)
from rlchat.training.inspection.opened_run import OpenedRun, open_run
from rlchat.training.run_folder import RunFolder, to_json
from rlchat_envs import Conversation

_SHADES = {"advantage": True, "value": True, "kl": True, "probability": False}  # signed or not
_BASELINES = {
    "gae": "less what the critic expected",
    "rloo": "less what the same start brought others",
    "reinforce": "less what others had to come",
}
_EXCERPT = 60  # characters of a message in a table
_LEAST = 12  # columns of a table's first column


def run_explain(options: ExplainOptions, console: Console) -> None:
    """Show an episode, and write its numbers down if a file was named."""
    place = options.json
    if place is not None and (place.is_dir() or not place.resolve().parent.is_dir()):
        raise UserError(f"expected a file in a folder that exists; got --json {place}")
    run = RunFolder(options.run)
    run.read_config()
    config = default_options(TrainConfig, "train", [options.run])
    config.__post_init__()
    tried: WhatIf | None = None
    with Progress(console) as progress:
        progress.status(f"opening {options.run}")
        opened = open_run(config, run, progress)
        episodes = _episodes(opened, options, progress)
        turns = _wanted(episodes, options)
        progress.status("reading the episode")
        explained = explain_episode(opened, episodes)
        found = _dependences(opened, episodes, turns) if options.messages else []
        if options.turn is not None:
            tried = what_if(
                opened,
                episodes,
                options.turn,
                options.say,
                options.times,
                options.alternatives,
                progress,
            )
    _show(explained, found, turns, options, console)
    if tried is not None:
        _show_counterfactuals(tried, options, console)
    if place is not None:
        files.write_json(place, _numbers(explained, found, turns, tried))


def _episodes(opened: OpenedRun, options: ExplainOptions, listener: Listener) -> Episodes:
    if options.split is None:
        return recorded(opened, options.episode, options.iteration, options.beside)
    count = listener.counter("playing", options.beside + 1)
    return played(
        opened,
        options.episode,
        options.split,
        options.seed,
        options.beside,
        options.temperature,
        count,
    )


def _wanted(episodes: Episodes, options: ExplainOptions) -> list[int]:
    """Numbers of the turns that are shown."""
    turns = list(range(len(episodes.chosen.parts)))
    if not turns:
        raise UserError(
            f"expected an episode with a turn; episode {options.episode} has none; name another "
            "with --episode"
        )
    if options.turn is None:
        return turns
    if options.turn not in turns:
        raise UserError(
            f"expected a turn from 0 to {turns[-1]}; the episode has no turn {options.turn}; name "
            "another with --turn"
        )
    return [options.turn]


def _dependences(opened: OpenedRun, episodes: Episodes, turns: Sequence[int]) -> list[Dependence]:
    chosen = episodes.chosen
    return dependences(
        opened.policy, chosen.conversation, agent_turns(chosen), opened.config.rollout, turns
    )


def _show(
    explained: ExplainedEpisode,
    found: Sequence[Dependence],
    turns: Sequence[int],
    options: ExplainOptions,
    console: Console,
) -> None:
    """The conversation, with what is known of each turn that was asked for."""
    trajectory = explained.trajectory
    of = f", {trajectory.env}" if trajectory.env else ""
    say(console, f"episode {trajectory.index}{of}: {ending(trajectory)}")
    say(
        console,
        f"advantages by {explained.estimator}, whitened with {explained.beside} other episodes; a "
        f"unit of scaled score is a score of {explained.unit:.3g}",
    )
    signed = _SHADES[options.shade]
    values = [_value(t, options.shade) for turn in explained.turns for t in turn.tokens]
    most = max(map(abs, values)) if signed else 1.0
    console.print(legend(options.shade, most, signed, console))
    shown = {explained.turns[number].place: number for number in turns}
    last = max(shown) if len(turns) == 1 else len(trajectory.conversation)
    for place, message in enumerate(trajectory.conversation[: last + 1]):
        console.print()
        if place not in shown:
            console.print(spoken(message), soft_wrap=not console.is_terminal)
            continue
        number = shown[place]
        turn = explained.turns[number]
        _show_turn(turn, number, options.shade, most, console)
        console.print(_advantage_table(turn, explained.estimator, console))
        if found:
            dependence = found[turns.index(number)]
            console.print(_messages_table(dependence, trajectory.conversation, console))
            console.print(Text(_agreement(dependence), "dim"))


def _value(token: TokenNumbers, shade: str) -> float:
    if shade == "probability":
        return math.exp(token.logprob)
    return float(getattr(token, shade))


def _show_turn(turn: ExplainedTurn, number: int, shade: str, most: float, console: Console) -> None:
    if turn.thought:
        console.print(label("assistant", "thought").append(Text(printable(turn.thought), "dim")))
    tokens = [token.text for token in turn.tokens]
    values = [_value(token, shade) for token in turn.tokens]
    line = label("assistant").append_text(shaded(tokens, values, most, _SHADES[shade], console))
    console.print(line, soft_wrap=True)
    unsafe = f", unsafe: {', '.join(turn.costs)}" if any(turn.costs.values()) else ""
    say(console, f"turn {number}: {parts_line(turn.parts)}{unsafe}")
    say(
        console,
        f"value before it {turn.value:+.2f}, KL {turn.kl:+.2f} nats over {len(turn.tokens)} "
        f"tokens, advantage {turn.advantage.whitened:+.2f}",
    )


def _advantage_table(turn: ExplainedTurn, estimator: str, console: Console) -> Table:
    """The parts of a turn's advantage, before whitening and after."""
    raw, whitened = turn.advantage.parts(), turn.advantage.parts(whitened=True)
    names = {"KL": "KL to the warm start", "baseline": _BASELINES[estimator]}
    names["whitening"] = "less the mean of all tokens"
    rows = [
        (names.get(name, name), f"{raw[name]:+.3f}" if name in raw else "", f"{value:+.3f}")
        for name, value in whitened.items()
        if value or name in names
    ]
    total, trained = turn.advantage.total, turn.advantage.whitened
    rows.append(("sum", f"{total:+.3f}", f"{trained:+.3f}"))
    return _table(("advantage, by what gave it", "scaled score", "whitened"), rows, console)


def _messages_table(dependence: Dependence, conversation: Conversation, console: Console) -> Table:
    """What earlier messages did to a reply."""
    rows = []
    for effect in dependence.messages:
        message = conversation[effect.place]
        name = {"assistant": "agent", "tool": "desk"}.get(message.role, message.role)
        nats, weights, taken = effect.occlusion, effect.attention, effect.contribution
        shown = f"{effect.place} {name}: {_excerpt(message.content)}"
        rows.append((shown, f"{nats:+.2f}", _share(weights), _share(taken)))
    for name, (weights, taken) in (
        ("the reply itself", dependence.own),
        ("marks of the chat template", dependence.marks),
    ):
        rows.append((name, "", _share(weights), _share(taken)))
    return _table(
        ("what the reply hung on", "nats without", "attention", "of values"), rows, console
    )


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _agreement(dependence: Dependence) -> str:
    weights, taken = dependence.agreement
    if math.isnan(dependence.own[0]):
        return "This model has no attention to be read."
    if math.isnan(weights):
        return "rank correlation with the nats: too few messages to tell"
    values = "" if math.isnan(taken) else f", of values {taken:+.2f}"
    return f"rank correlation with the nats' size: attention {weights:+.2f}{values}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> Table:
    """A table whose first column gives way where there is no room."""
    columns = zip(names, *rows, strict=True)
    widest = [max(map(cell_len, column)) for column in columns]
    room = max(_LEAST, console.width - sum(widest[1:]) - 2 * len(names))
    table = Table(box=None, pad_edge=False)
    table.add_column(names[0], no_wrap=True, overflow="ellipsis", width=min(widest[0], room))
    for name, width in zip(names[1:], widest[1:], strict=True):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    return table


def _show_counterfactuals(tried: WhatIf, options: ExplainOptions, console: Console) -> None:
    """What becomes of the episode after each message, and the messages."""
    success = {True: "solved", False: "not solved", None: ""}[tried.recorded_success]
    rows = [("recorded", success, f"{tried.recorded_return:+.2f}", "")]
    for number, outcome in enumerate(tried.outcomes):
        rate, against = outcome.success, outcome.difference
        rows.append(
            (
                f"{_letter(number)} ×{outcome.times}",
                "" if rate is None else _shown(rate, "{:.0%}"),
                _shown(outcome.returns, "{:+.2f}"),
                "" if against is None else _shown(against, "{:+.2f}"),
            )
        )
    console.print()
    names = (f"from turn {options.turn}", "success", "return", "less that of A")
    console.print(_table(names, rows, console))
    for number, outcome in enumerate(tried.outcomes):
        often = tried.sampled.get(outcome.text, 0)
        own = f"; {often} of {tried.samples} sampled replies" if tried.samples else ""
        about = f" (what was said{own})" if number == 0 else f" ({own[2:]})" if own else ""
        line = f"{_letter(number)}{about}: {' '.join(printable(outcome.text).split())}"
        say(console, line)
    say(console, "mean (95% interval); ×1 where the message itself ends the episode")


def _shown(interval: Interval, form: str) -> str:
    """An interval; what leaves nothing to chance is a number alone."""
    if interval.low == interval.high:
        return form.format(interval.mean)
    return with_interval(interval, form)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _excerpt(text: str) -> str:
    whole = " ".join(text.split())
    return whole if len(whole) <= _EXCERPT else f"{whole[: _EXCERPT - 1]}…"


def _numbers(
    explained: ExplainedEpisode,
    found: Sequence[Dependence],
    turns: Sequence[int],
    tried: WhatIf | None,
) -> dict[str, Any]:
    """What was shown, as JSON."""
    told: list[dict[str, Any]] = []
    for i, number in enumerate(turns):
        turn = explained.turns[number]
        entry = {"turn": number, **asdict(turn)}
        entry["advantage_parts"] = turn.advantage.parts()
        entry["whitened_parts"] = turn.advantage.parts(whitened=True)
        told.append(entry | ({"hung_on": asdict(found[i])} if found else {}))
    trajectory = explained.trajectory
    answer: dict[str, Any] = {
        "episode": trajectory.index,
        "seed": trajectory.seed,
        "messages": [{"role": m.role, "content": m.content} for m in trajectory.conversation],
        "estimator": explained.estimator,
        "unit": explained.unit,
        "beside": explained.beside,
        "turns": told,
    }
    if tried is not None:
        answer["counterfactuals"] = asdict(tried)
    finite: dict[str, Any] = to_json(_without_nan(answer))
    return finite


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: what is not a number becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
