"""The course of a training in one line."""

from __future__ import annotations

import math

import pytest

from rlchat.cli.tables import bounds, course, sparkline, spoken
from rlchat.training.learning_curve import measured, success_interval
from rlchat_envs import Message, write_call


def test_bars_are_on_a_fixed_scale() -> None:
    assert sparkline([0.0, 0.124, 0.125, 0.5, 0.99, 1.0]) == "▁▁▂▅██"
    assert sparkline([0.5, math.nan, -3.0, 7.0]) == "▅ ▁█"
    assert sparkline([-1.0, 0.0, 1.0], -1.0, 1.0) == "▁▅█"
    assert sparkline([2.0, 2.0], 2.0, 2.0) == "▁▁"


def test_the_last_success_has_its_interval() -> None:
    rows = [{"success": s, "return": 9.0} for s in (0.25, 0.5, 0.75)]
    # Wilson, 48 of 64: (.75 + .03001 ± 1.96 √(.002930 + .000234)) / 1.06002
    interval = success_interval(0.75, 64)
    assert (interval.low, interval.high) == pytest.approx((0.6318, 0.8399), abs=1e-4)
    assert bounds(interval) == "63–84%"
    assert course(rows, 64) == "success ▃▅▇ 75% (63–84%)"
    assert course([*rows, {"success": math.nan}], 64) == "success ▃▅▇  75% (63–84%)"


def test_where_success_is_unknown_the_return_is_shown() -> None:
    rows = [{"success": s, "return": r} for s, r in ((math.nan, -1.0), (None, 0.0), (None, 1.0))]
    assert measured(rows) == ("return", [-1.0, 0.0, 1.0])
    assert course(rows, 64) == "return ▁▅█ +1.00 (from -1.00 to +1.00)"
    assert course([], 64) == course([{"success": None, "return": None}], 64) == ""


def test_a_long_training_shows_its_end() -> None:
    rows = [{"success": 0.0}] * 60 + [{"success": 1.0}] * 3
    assert course(rows, 4) == f"success {'▁' * 45}███ 100% (51–100%)"


def test_calls_are_shown_as_people_write_them() -> None:
    call = write_call("lookup_order", {"order_id": "B4821"})
    said = f"One moment.\n{call}\n<tool_call>oops</tool_call>"
    assert spoken(Message("assistant", said)).plain == (
        " agent  One moment.\n"
        '        [calls lookup_order(order_id="B4821")]\n'
        "        [calls a call that cannot be read]"
    )
    assert spoken(Message("user", call)).plain == f"  user  {call}"
