"""The verb `sweep`: what it says, and what it refuses before anything is trained."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from rlchat.cli.analysis.sweep import SweepOptions
from rlchat.cli.analysis.sweep_tables import comparisons_table, curves, levels_table
from rlchat.cli.main import main, parse
from rlchat.errors import UserError
from rlchat.evaluation.summary import with_interval
from rlchat.statistics import Interval
from rlchat.training.sweep.aggregates import Aggregates, Band, Comparison, Level
from rlchat.training.sweep.config import SweepConfig

SMALL = (
    "--policy tiny --adapter.dtype float32 --adapter.device cpu --episodes 4 --ppo.minibatches 1 "
    "--rollout.rows 4 --rollout.max-new-tokens 4 --iterations 1 --evaluation 2 "
    "--warm-start.demonstrations 0"
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--grid kl.beta=0.01,0.1", "got kl.beta; did you mean ppo.beta?"),
        ("--grid ppo.lerning-rate=1", "got ppo.lerning-rate; did you mean ppo.learning-rate?"),
        ("--grid nonsense=1", "expected an option of rlchat train in --grid; got nonsense; rlchat"),
        ("--grid ppo.beta=0.1,x", "expected a number for ppo.beta in --grid; got 'x'"),
        ("--grid episodes=1.5", "expected a whole number for episodes in --grid; got '1.5'"),
        ("--grid rollout.isolate=perhaps", "expected true or false for rollout.isolate in --grid"),
        ("--grid ppo.estimator=a2c", "expected one of gae, rloo, reinforce for ppo.estimator in"),
        ("--grid ppo.beta=0.1,0.10", "ppo.beta=0.1 and ppo.beta=0.10 are the same; leave one out"),
        ("--grid ppo.beta=1 ppo.beta=2", "got ppo.beta twice; put all its values into one entry"),
        ("--grid ppo.beta", "expected option=value,value in --grid, as in ppo.beta=0.01,0.1; got"),
        ("--grid ppo.beta=0.1,", "expected option=value,value in --grid"),
        ("--grid ppo.beta=0.1,-1", "beta of at least 0; got -1.0, in the point ppo.beta=-1 of"),
        ("--grid seed=1,2", "got seed, which the sweep sets; name seeds with --seeds"),
        ("--grid run=a,b", "got run, which the sweep sets; name its folder with --out"),
        ("--grid evaluation=1,2", "which is the same for all runs; give it as --evaluation"),
        ("--seeds 1 1", "expected seeds that differ, as in --seeds 0 1 2; got 1 1"),
        ("--seeds", "expected seeds that differ, as in --seeds 0 1 2; got none"),
        ("--seeds -1", "expected seeds of at least 0 and below"),
        ("--iterations 0", "expected iterations of at least 1; got 0"),
        ("--evaluation 0", "expected evaluation of at least 1; got 0"),
        ("--grid ppo.beta=1,2 --against ppo.beta=3", "expected --against ppo.beta=1 or ppo.beta=2"),
        ("--policy tiny --out file", "expected a folder for a sweep; file is a run or a file"),
        ("--policy tiny --grid policy=tiny,no-such", "expected a model (smollm2-135m, tiny)"),
        ("--policy tiny --grid env=rlchat/Suport-v0", "did you mean rlchat/Supp"),
        ("--policy tiny --grid users=nobody", "expected users out of agenda"),
    ],
)
def test_a_mistake_is_a_sentence_before_the_first_training(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["sweep", *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and told.startswith("rlchat: "), told
    assert [p.name for p in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("words", [["--seed", "3"], ["--run", "runs/x"], ["--resume"]])
def test_what_the_sweep_sets_itself_is_no_option(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["sweep", *words])
    assert left.value.code == 2 and f"Unrecognized options: {words[0]}" in capsys.readouterr().err


def test_nor_can_it_be_set_in_python() -> None:
    for wrong, said in (
        ({"seed": 3}, "expected --seeds, as a sweep sets --seed of each run; got --seed 3"),
        ({"run": "x"}, "expected --out, as a sweep sets --run of each run; got --run x"),
        ({"resume": True}, "expected no --resume"),
    ):
        with pytest.raises(UserError, match=said):
            SweepConfig(**wrong)  # type: ignore[arg-type]


def test_options_are_those_of_train(tmp_path: Path) -> None:
    words = ["--ppo.beta", "0.5", "--users", "terse", "--grid", "ppo.layers=0.5,1"]
    found = parse(SweepOptions, "sweep", words)
    assert (found.ppo.beta, found.users, found.seeds) == (0.5, "terse", (0, 1, 2))
    assert [s.config.ppo.layers for s in found.settings] == [0.5, 1.0]
    assert {s.config.ppo.beta for s in found.settings} == {0.5}
    file = tmp_path / "sweep.toml"
    file.write_text('seeds = [5, 6]\ngrid = ["ppo.beta=0.1,0.2"]\n[ppo]\nlayers = 0.5\n')
    found = parse(SweepOptions, "sweep", ["--config", str(file)])
    assert found.seeds == (5, 6) and found.ppo.layers == 0.5 and len(found.settings) == 2


def test_options_of_a_group_in_a_group_may_be_swept() -> None:
    grid = ("reward.judging.max-tokens=512,1024", "reward.rubric=default", "reward.judge=tiny")
    found = SweepConfig(grid=grid).settings
    assert [s.config.reward.judging.max_tokens for s in found] == [512, 1024]
    assert {(s.config.reward.rubric, s.config.reward.judge) for s in found} == {("default", "tiny")}


def test_a_run_s_record_gives_options_but_neither_folder_nor_seed(tmp_path: Path) -> None:
    record = {"resolved": {}, "run": "runs/x", "seed": 7, "policy": "tiny", "ppo": {"beta": 0.5}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    found = parse(SweepOptions, "sweep", ["--config", str(tmp_path)])
    assert (found.policy, found.ppo.beta, found.seed) == ("tiny", 0.5, 0)
    with pytest.raises(UserError, match="expected options of rlchat sweep"):
        file = tmp_path / "a.toml"
        file.write_text("seedz = [1]")
        parse(SweepOptions, "sweep", ["--config", str(file)])


def test_it_says_how_many_runs_there_are_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    words = ["sweep", *SMALL.split(), "--seeds", "0", "1", "--out", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "1 setting × 2 seeds: 2 runs\n" in told
    assert "Run 1 of 2: default, seed 0\n" in told
    assert "Run 2 of 2: default, seed 1; about 0:" in told and "left for all runs" in told
    assert "rlchat/Support-v0, dev side, 2 users: success" in told
    assert "Bootstrap intervals of few runs are too narrow" in told
    assert (out / "default/seed-1/adapter/adapter_model.safetensors").is_file()
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "2 runs, 2 of them finished" in again and "Run 1" not in again
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text("utf-8")
    assert '<h2 id="sweep-title">Sweep</h2>' in page and "<h3>seed-1</h3>" in page
    assert main([*words, "--iterations", "2"]) == 2
    assert "--iterations was 1 and is 2 now" in capsys.readouterr().err


def rendered(what: object) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(what)
    return out.getvalue()


def interval(mean: float) -> Interval:
    return Interval(mean, mean - 0.1, mean + 0.1)


def test_tables_say_intervals() -> None:
    unsure = Interval(0.5, math.nan, math.nan)
    levels = [
        Level("ppo.beta=[red]1", 3, interval(0.7), interval(0.6), interval(0.3)),
        Level("ppo.beta=2", 1, unsure, unsure, unsure),
    ]
    found = Aggregates("success", levels, [], [])
    told = rendered(levels_table(found, "title"))  # type: ignore[arg-type]
    assert "ppo.beta=[red]1" in told and "70% (60% … 80%)" in told and "30% (20% … 40%)" in told
    assert "│ 50%" in told and "nan" not in told
    one = Comparison("b", "a", 3, interval(0.2), interval(0.8), interval(0.8))
    told = rendered(comparisons_table([one], "success"))
    assert "+20% (+10% … +30%)" in told and "80% (70% … 90%)" in told
    score = Aggregates("score", [Level("a", 2, interval(0.7), interval(0.6), None)], [], [])
    told = rendered(levels_table(score, "title"))  # type: ignore[arg-type]
    assert "optimality" not in told.splitlines()[2] and "+0.70 (+0.60 … +0.80)" in told
    assert with_interval(Interval(math.nan, math.nan, math.nan), "{:.0%}") == "–"


def test_curves_have_a_line_a_setting() -> None:
    bands = [Band(f"b={i}", "success", [0, 1, 2], [interval(0.2 + i / 10)] * 3) for i in range(6)]
    told = curves(bands, 80).plain
    assert "── b=0" in told and "── b=3" in told and "── b=4" not in told
    assert "the first 4 settings" in told
    assert max(map(len, curves(bands[:2], 80).plain.splitlines())) <= 80
    alone = Band("a", "return", [0, 1], [Interval(1.0, math.nan, math.nan)] * 2)
    assert "return of training users" in curves([alone], 80).plain
