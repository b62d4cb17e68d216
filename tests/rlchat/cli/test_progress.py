"""What a person sees while training goes on, and what a log hears."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from rlchat.cli.live import progress
from rlchat.cli.live.pace import Beat, Load, Pace, Tally, Used
from rlchat.cli.live.progress import Progress
from rlchat.cli.live.signs import signs
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import Message


def heard(monkeypatch: pytest.MonkeyPatch, apart: float) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(progress, "LINES_APART", apart)
    with Progress(Console(file=out)) as shown:
        shown.say("warm start")
        for i in range(3):
            shown.status(f"episode {i}")
    return out.getvalue().splitlines()


def test_a_log_hears_how_it_goes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(monkeypatch, 60.0) == ["warm start"]
    assert heard(monkeypatch, -1.0) == ["warm start", "episode 0", "episode 1", "episode 2"]


CALM = {"iteration": 0, "seconds": 1.0, "return": 0.5, "success": 0.5, "entropy": 0.3}


def test_what_looks_wrong_is_told_once() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), total=3) as shown:
        shown.iteration(CALM)
        shown.iteration({**CALM, "iteration": 1, "entropy": 0.01, "skipped_updates": 2.0})
        shown.iteration({**CALM, "iteration": 2, "entropy": 0.01})
    said = out.getvalue()
    assert said.count("hardly tries") == 1
    assert "iteration 1: entropy 0.01: the agent hardly tries anything any more" in said
    assert "2 updates skipped: not finite" in said


def test_a_score_that_rises_without_success_is_a_sign() -> None:
    rows = [{**CALM, "return": 0.1 * i, "success": 0.6 - 0.05 * i} for i in range(8)]
    assert signs(rows) == {"success": "return rises while success falls; read transcripts"}
    assert signs(rows[:7]) == {}  # too early to tell
    assert signs([{**r, "success": 0.6} for r in rows]) == {}
    assert signs([{**r, "success": float("nan")} for r in rows]) == {}  # it knows no success


def test_success_that_falls_is_a_sign_whatever_the_score_does() -> None:
    rows = [{**CALM, "return": -0.1 * i, "success": 0.6 - 0.05 * i} for i in range(8)]
    assert signs(rows) == {"success": "success falls; read transcripts"}


def test_the_critic_is_judged_only_where_returns_vary() -> None:
    misled = {**CALM, "explained_variance": -13.9}
    told = {"explained_variance": "explained_variance -13.9: the critic misleads"}
    assert signs([{**misled, "return_std": 0.3}]) == told
    assert signs([{**misled, "return_std": 0.0}]) == {}  # every episode earns the same
    assert signs([misled]) == told  # a run of before has no such metric


def look(iteration: int, proxy: float, success: float, alarm: float = 0.0) -> dict[str, float]:
    """A measurement on held-out users, each mean with a standard error of .05."""
    kept = {"watch/proxy": proxy, "watch/success": success, "watch/alarm": alarm}
    errors = {"watch/proxy_error": 0.05, "watch/success_error": 0.05}
    return {**CALM, "iteration": iteration, **kept, **errors}


FELL = "held-out success fell: in iteration 4 60%, now 40%; read transcripts"
ROSE = (
    "the learned reward rose from 1.00 to 1.50 since iteration 0, but held-out success did not "
    "(50%, now 52%); read transcripts"
)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([look(0, 1.0, 0.5), look(4, 1.0, 0.6), look(8, 1.0, 0.4)], {"watch/success": FELL}),
        ([look(0, 1.0, 0.5), look(4, 1.5, 0.52)], {"watch/proxy": ROSE}),
        ([look(0, 1.0, 0.5), look(4, 1.5, 0.7)], {}),  # as it should be
        ([look(0, 1.0, 0.5), look(4, 1.1, 0.45)], {}),  # noise: 1.645 · .05 · √2 = .116
        ([look(0, 1.0, 0.5), look(4, 1.5, 0.3, alarm=1.0)], {}),  # the alarm says so
        ([look(0, 1.0, 0.5), look(4, 1.5, 0.52), {**CALM, "iteration": 5}], {}),  # none now
        ([look(0, 1.0, 0.5)], {}),
    ],
)
def test_a_learned_reward_is_told_of_before_the_alarm(
    looks: list[dict[str, float]], told: dict[str, str]
) -> None:
    assert signs(looks) == told


def test_no_time_left_is_below_zero() -> None:
    """After the last iteration comes an evaluation; and a count of iterations may be unknown."""
    for total in (2, 0):
        with log(total=total) as (progress, clock, out):
            for i in range(2):
                clock.now += 40.0
                progress.iteration({**ROW, "iteration": i})
            clock.now += 500.0
            assert progress._left() == "0:00"
            assert "-" not in out.getvalue().split("left ")[-1]


def test_a_cost_that_rises_is_a_sign_whatever_the_score_does() -> None:
    rows = [{**CALM, "cost": 0.02 * i} for i in range(8)]  # .08 more over four iterations
    assert signs(rows) == {"cost": "what is unsafe grows more frequent; read transcripts"}
    assert signs([{**r, "cost": 0.01 * i} for i, r in enumerate(rows)]) == {}


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Busy(Load):
    """Others use what they are said to."""

    def __init__(self, others: float = 0.0):
        super().__init__(lambda: Used(0.0, 0.0, 0.0), cores=2)
        self.others = others

    def sample(self) -> float:
        return self.others


def played(index: int, solved: bool | None, tokens: int = 10) -> Trajectory:
    said = (Message("user", "Hi."), Message("assistant", "Hello [there]."))
    return Trajectory(
        index, 0, [1] * tokens, parts=[{"a": 0.25}], success=solved, conversation=said
    )


@contextmanager
def log(others: float = 0.0, total: int = 24) -> Iterator[tuple[Progress, Clock, io.StringIO]]:
    """Where nobody watches."""
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=80)
    with Progress(console, total, episodes=64, clock=clock, load=Busy(others)) as progress:
        yield progress, clock, out


def test_a_log_hears_at_once_what_begins_and_then_once_a_minute() -> None:
    with log() as (progress, clock, out):
        progress.phase("loading")
        assert out.getvalue() == "loading\n"
        count = progress.counter("evaluating base", 100)
        for clock.now in range(1, 130):
            count(None) if clock.now <= 65 else progress.tick()
    # 61 of 100 in 61 s: 39 s left. At 122 s 65 are done: 122 · 35 / 65 = 65.7 s left.
    assert out.getvalue().splitlines() == [
        "loading",
        "evaluating base: 0/100",
        "evaluating base: 61/100, 0:39 left",
        "evaluating base: 65/100, 1:05 left",
    ]


def test_shares_have_time_left() -> None:
    with log() as (progress, clock, out):
        share = progress.share("warm start")
        for clock.now, done in ((61.0, 0.25), (122.0, 1.0)):
            share(done, "loss 0.500")
    assert out.getvalue().splitlines() == [
        "warm start: 25%, loss 0.500, 3:03 left",
        "warm start: 100%, loss 0.500",
    ]


def test_episodes_are_told_with_their_interval_and_speed() -> None:
    with log() as (progress, clock, out):
        count = progress.rollout(0, 64)
        clock.now = 41.0
        for i in range(41):
            count(played(i, i < 27))
        clock.now = 60.5
        progress.tick()
    # Wilson, 27 of 41: .645 ± .139. 410 tokens in 60.5 s; 60.5 · 23 / 41 = 33.9 s.
    assert out.getvalue().splitlines() == [
        "iteration 0: 64 episodes",
        "iteration 0: episode 41 of 64, 27 solved (66%, 51–78%), 7 tokens/s, 0:33 left",
    ]


def test_too_few_episodes_tell_no_time_and_a_foreign_world_no_success() -> None:
    clock = Clock()
    tally = Tally(64, Pace(clock))
    clock.now = 10.0
    for i in range(15):
        tally.add(played(i, None))
    assert tally.line() == "episode 15 of 64, return +0.25, 15 tokens/s"
    tally.add(played(15, None))
    assert tally.line() == "episode 16 of 64, return +0.25, 16 tokens/s, 0:30 left"


ROW = {**CALM, "seconds": 40.0, "tokens_per_second": 100.0}


def test_what_has_no_share_tells_how_long_it_lasts() -> None:
    with log() as (progress, clock, out):
        progress.rollout(0, 64)
        progress.status("iteration 0: learning")
        clock.now = 61.0
        progress.tick()
        progress.iteration(ROW)
        clock.now = 121.0
        progress.rollout(1, 64)
        progress.status("iteration 1: learning")
        for clock.now in (125.0, 170.0, 190.0):  # 121 + 40 - 125 = 36; then longer than usual
            progress.tick()
    assert [line for line in out.getvalue().splitlines() if "learning" in line] == [
        "iteration 0: learning, 1:01 so far",
        "iteration 1: learning, 0:36 left in this iteration",
        "iteration 1: learning, 1:09 so far",
    ]


def test_an_iteration_is_one_line_in_a_log() -> None:
    with log(total=4) as (progress, clock, out):
        progress.iteration(ROW)
        clock.now = 20.0
        progress.iteration({**ROW, "iteration": 1, "success": 0.75, "seconds": 20.0})
    first, second = out.getvalue().splitlines()
    assert first.endswith("tokens/s 100  left 2:00  success ▅ 50% (38–62%)")
    assert second.endswith("tokens/s 100  left 1:00  success ▅▇ 75% (63–84%)")


def test_what_slows_it_is_said_with_the_speed_once_there_are_two_iterations() -> None:
    with log(others=0.96) as (progress, clock, out):
        for clock.now, speed in ((61.0, 100.0), (122.0, 40.0)):
            progress.iteration({**ROW, "tokens_per_second": speed})
            progress.status("learning")
    assert [line for line in out.getvalue().splitlines() if line.startswith("learning")] == [
        "learning; other processes use 0.96 of 2 cores",
        "learning; other processes use 0.96 of 2 cores; practice runs at 0.4 of its fastest speed",
    ]


def test_every_fourth_iteration_shows_a_dialogue() -> None:
    with log() as (progress, _, out):
        for iteration in range(9):
            progress.dialogue(iteration, played(0, iteration < 4))
    shown = out.getvalue().splitlines()
    titles = [line.strip("╭─╮ ") for line in shown if line.startswith("╭")]
    assert titles == [
        "iteration 3, its first dialogue: solved, score +0.25, 1 turns",
        "iteration 7, its first dialogue: not solved, score +0.25, 1 turns",
    ]
    assert [line.strip("│").rstrip() for line in shown[1:3]] == [
        "   user  Hi.",
        "  agent  Hello [there].",
    ]


def test_a_terminal_shows_table_course_status_and_load() -> None:
    out, clock = io.StringIO(), Clock()
    console = Console(
        file=out,
        width=100,
        height=30,
        force_terminal=True,
        no_color=True,
        _environ={"TERM": "xterm"},
    )
    with Progress(console, 4, clock=clock, load=Busy(0.5)) as progress:
        for i in range(2):
            clock.now += 10
            progress.iteration({**ROW, "iteration": i})
        clock.now += 10.0
        progress.status("iteration 2: learning")
        picture = Console(file=io.StringIO(), width=100)
        picture.print(progress._picture())
        shown = picture.file.getvalue().splitlines()  # type: ignore[attr-defined]
        progress.dialogue(3, played(0, True))
    head = "iteration return success turns kl entropy expl. var. tokens/s time left"
    assert " ".join(shown[0].split()) == head
    assert " ".join(shown[2].split()) == "1 +0.50 0.50 – – 0.30 – 100 1:10"  # 2 · 40 s, 10 ago
    assert [line.rstrip() for line in shown[3:]] == [
        "success ▅▅ 50% (38–62%)",
        "iteration 2: learning",
        "other processes use 0.50 of 2 cores; practice runs at its fastest speed",
    ]
    last = out.getvalue()[out.getvalue().rindex("time left") :]
    assert "learning" not in last and "▅▅ 50%" in last  # the table stays, the status goes


def test_quiet_is_quiet() -> None:
    out = io.StringIO()
    with Progress(Console(file=out), quiet=True) as progress:
        progress.phase("loading")
        progress.rollout(0, 64)(played(0, True))
        progress.iteration(ROW)
        progress.dialogue(3, played(0, True))
        progress.warn("oh")
    assert out.getvalue() == ""


def test_what_fails_in_the_thread_is_raised_in_the_next_status() -> None:
    def fail() -> None:
        raise OSError("the pipe is closed")

    beat = Beat(fail, seconds=0.001)
    beat.start()
    beat.join(10.0)
    with pytest.raises(OSError, match="the pipe is closed"):
        beat.check()
    beat.end()
