"""How far a stated style is followed, and what it costs, in numbers counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rlchat.evaluation.blocks import Where
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.kept import KeptEpisodes, _about
from rlchat.evaluation.stated_style import share_followed, style_rows
from rlchat.models.config import AdapterConfig
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Episode
from rlchat_envs import Message

SHORT = "Your order number, please?"
OTHER = "Which size do you want?"
LONG = (
    "The record says that your kettle is lost in transit, so the policy allows a full refund to "
    "the card, which arrives within five working days."
)


def episode(seed: int, replies: Sequence[str], success: bool | None = True) -> Episode:
    said = tuple(m for r in replies for m in (Message("user", "hi"), Message("assistant", r)))
    return Episode(seed, seed, conversation=said, parts=[{"a": 1.0}], success=success)  # type: ignore[arg-type]


def result(stated: tuple[str, ...], played: list[Episode], agent: str = "me") -> EvaluationResult:
    return EvaluationResult(agent, EnvConfig(stated_style=stated), "dev", 0, 0.0, played)


def test_what_it_gains_and_costs_is_paired_user_by_user() -> None:
    plain = result((), [episode(i, [LONG, SHORT], success=True) for i in range(10)])
    brief = result(("brief",), [episode(i, [SHORT, OTHER], i < 8) for i in range(10)])
    (row,) = style_rows([plain, brief])
    assert (row.side, row.stated, row.episodes) == ("brief", ("brief",), 10)
    assert row.followed.mean == 1.0 and row.followed.high == 1.0
    assert row.otherwise is not None and row.otherwise.mean == 0.5
    assert row.gained is not None and row.gained.mean == 0.5
    assert row.success is not None and row.success.mean == pytest.approx(-0.2)
    assert row.success.low < -0.2 < row.success.high
    assert row.to_json()["followed"]["mean"] == 1.0


def test_without_such_users_it_is_compared_with_axes_left_open() -> None:
    env = EnvConfig(stated_style=("any",))
    seeds = range(60)
    told = result(
        ("any",),
        [episode(i, [SHORT if "brief" in env.style_of(i) else LONG]) for i in seeds],
    )
    rows = {row.side: row for row in style_rows([told])}
    assert set(rows) == {"brief", "detailed", "formal", "friendly", "plain", "advanced"}
    brief = rows["brief"]
    assert brief.episodes == sum("brief" in env.style_of(i) for i in seeds)
    assert brief.followed.mean == 1.0 and brief.otherwise is not None
    assert brief.otherwise.mean == 0.0 and brief.gained is None and brief.success is None


def test_agents_and_environments_are_told_apart() -> None:
    mine = [result((), [episode(0, [LONG])]), result(("brief",), [episode(0, [SHORT])])]
    yours = [
        result((), [episode(0, [SHORT])], "you"),
        result(("brief",), [episode(0, [LONG])], "you"),
    ]
    rows = style_rows([mine[0], yours[0], mine[1], yours[1]])
    assert [(row.agent, row.followed.mean) for row in rows] == [("me", 1.0), ("you", 0.0)]
    assert [row.gained.mean for row in rows if row.gained] == [1.0, -1.0]
    assert style_rows(mine[:1]) == []


def test_success_that_is_not_told_costs_nothing_known() -> None:
    plain = result((), [episode(0, [LONG], None)])
    (row,) = style_rows([plain, result(("brief",), [episode(0, [SHORT], None)])])
    assert row.success is None and row.gained is not None


def test_the_share_is_a_metric_and_survives_the_file() -> None:
    told = result(("brief", "formal"), [episode(0, [SHORT]), episode(1, [LONG])])
    # Neither reply has a mark of a tone; so of what is stated, the short one follows half.
    assert share_followed(told) == {0: 0.5, 1: 0.0}
    assert told.metrics["style followed"].mean == 0.25
    again = EvaluationResult.from_json(told.to_json())
    assert again.env == told.env and again.metrics == told.metrics
    assert "style followed" not in result((), [episode(0, [SHORT])]).metrics


def test_cells_of_other_styles_are_other_files_and_earlier_ones_are_still_read(
    tmp_path: Path,
) -> None:
    where = Where("me", EnvConfig(), EvalConfig(), "tiny", AdapterConfig())
    styled = replace(where, env=EnvConfig(stated_style=("brief",)))
    kept = KeptEpisodes(tmp_path)
    kept.write(where, "v", 4, [episode(0, [LONG])])
    kept.write(styled, "v", 4, [episode(0, [SHORT])])
    assert kept.read(where, "v", 4)[0].conversation[1].content == LONG
    assert kept.read(styled, "v", 4)[0].conversation[1].content == SHORT
    assert "stated_style" not in _about(where, "v", 4)["env"]  # as earlier versions wrote it


def test_what_was_not_measured_is_none_and_no_number() -> None:
    """Where nothing was said without a style, nothing can be compared; a file knows no NaN."""
    plain = result((), [episode(i, []) for i in range(3)])
    brief = result(("brief",), [episode(i, [SHORT]) for i in range(3)])
    (row,) = style_rows([plain, brief])
    assert row.otherwise is None and row.gained is None and row.success is not None
    elsewhere = result((), [episode(i, [SHORT]) for i in range(10, 13)])
    (row,) = style_rows([elsewhere, brief])
    assert row.otherwise is None and row.gained is None and row.success is None
