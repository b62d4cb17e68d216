"""The learning curve in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from rlchat.training.config import TrainConfig
from rlchat.training.learning_curve import Curve, Rows
from rlchat.training.run_folder import RunFolder, read_metrics

_WIDEST = 100  # characters


def show_curve(run: RunFolder, config: TrainConfig, console: Console) -> None:
    """Print the learning curve of a run.

    Args:
        run: has the metrics.
        config: of the run.
        console: a terminal, or a file.
    """
    rows = read_metrics(run.metrics)
    points = len(Curve.of(rows, config.episodes).values)
    if points > 1 and not console.options.ascii_only:
        console.print(terminal_curve(rows, console.width, config.episodes), soft_wrap=True)


def terminal_curve(rows: Rows, width: int = 80, episodes: int = 64) -> Text:
    """The learning curve in so many columns: a line, with its 95% intervals as points.

    Args:
        rows: metrics, one row an iteration.
        width: of the terminal.
        episodes: of an iteration, on which the intervals depend.
    """
    from uniplot import plot_to_string

    curve, wide = Curve.of(rows, episodes), min(width, _WIDEST)
    options: dict[str, Any]
    if curve.band:
        bounds = [[i.low for i in curve.band], [i.high for i in curve.band]]
        drawn = [[100 * v for v in series] for series in (*bounds, curve.values)]
        options = {"lines": [False, False, True], "color": ["blue", "blue", "green"]}
        options |= {"title": "success by iteration, 95% intervals"}
        options |= {"y_min": 0, "y_max": 100, "y_unit": "%"}
    else:
        drawn, options = [curve.values], {"lines": True, "color": ["green"]}
        options |= {"title": "return by iteration"}
    picture = plot_to_string(
        ys=drawn,
        xs=[curve.iterations] * len(drawn),
        width=wide,
        line_length_hard_cap=wide,
        height=12,
        x_gridlines=[],
        y_gridlines=[],
        **options,
    )
    return Text.from_ansi(picture)
