"""Sweeps: every run is an ordinary one, and a stopped sweep goes on to the same numbers."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.errors import RunError, UserError
from rlchat.evaluation import matrix
from rlchat.listener import Listener
from rlchat.models.config import AdapterConfig
from rlchat.rollout.config import RolloutConfig
from rlchat.training import loop
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.pipeline import train_agent
from rlchat.training.run_folder import RunFolder, read_metrics
from rlchat.training.sweep import sweep as sweeping
from rlchat.training.sweep.config import SweepConfig
from rlchat.training.sweep.grid import settings_of
from rlchat.training.sweep.runs import EVALUATIONS
from rlchat.training.sweep.sweep import RECORD, Sweep

PLAIN = {
    "env": "tests/AskFirst-v0",
    "policy": "tiny",
    "iterations": 2,
    "episodes": 6,
    "adapter": AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
    "warm_start": WarmStartConfig(demonstrations=0),
    "rollout": RolloutConfig(rows=4, max_new_tokens=2, max_tokens=256),
    "ppo": PPOConfig(learning_rate=1e-2, minibatches=2),
    "critic": CriticConfig(width=8, epochs=3),
}
SWEEP = SweepConfig(
    **PLAIN,  # type: ignore[arg-type]
    seeds=(3, 4),
    grid=("ppo.learning-rate=1e-3,1e-2", "critic.epochs=3"),
    evaluation=8,
)
FIRST, SECOND = (f"ppo.learning-rate={rate},critic.epochs=3" for rate in ("1e-3", "1e-2"))


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


def go(out: Path, config: SweepConfig = SWEEP, **changed: Any) -> Sweep:
    """Do what is left of a sweep."""
    sweep = Sweep.begin(replace(config, out=out, **changed))
    for planned in sweep.waiting():
        sweep.execute(planned)
    return sweep


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text_envs: None) -> Sweep:
    """A sweep that nothing interrupted."""
    return go(tmp_path_factory.mktemp("whole") / "sweep")


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if "second" not in k and k != "peak_memory"}
        for row in read_metrics(run.metrics)
    ]


def same(a: Sweep, b: Sweep) -> None:
    """Bit for bit: adapters, checkpoints, metrics, evaluations, and what they come to."""
    for one, other in zip(a.runs, b.runs, strict=True):
        assert one.name == other.name and timeless(one.run) == timeless(other.run)
        for name in ("adapter/adapter_model.safetensors", "checkpoint/state.safetensors"):
            content = (one.run.folder / name).read_bytes()
            assert content == (other.run.folder / name).read_bytes(), name
    assert a.aggregates() == b.aggregates()


def test_every_setting_is_trained_with_every_seed(whole: Sweep) -> None:
    out = whole.config.out
    assert [r.name for r in whole.runs] == [
        f"{setting}, seed {seed}" for seed in (3, 4) for setting in (FIRST, SECOND)
    ]
    assert [r.run.folder.relative_to(out).as_posix() for r in whole.runs[:2]] == [
        f"{FIRST}/seed-3",
        f"{SECOND}/seed-3",
    ]
    assert whole.waiting() == []
    assert all(r.finished for r in whole.runs)


def test_a_run_of_a_sweep_is_that_of_train(whole: Sweep, tmp_path: Path) -> None:
    own = TrainConfig(**PLAIN, run=tmp_path / "run", seed=4, evaluation=0)  # type: ignore[arg-type]
    alone = train_agent(own).run
    planned = next(r for r in whole.runs if r.name == f"{SECOND}, seed 4")
    assert timeless(alone) == timeless(planned.run)
    name = "adapter/adapter_model.safetensors"
    assert (alone.folder / name).read_bytes() == (planned.run.folder / name).read_bytes()


def test_all_runs_meet_the_same_users(whole: Sweep) -> None:
    seeds = {tuple(e.seed for e in r.episodes) for f in whole.finished() for r in f.results}
    assert len(seeds) == 1 and len(next(iter(seeds))) == 8


def test_an_environment_without_success_is_measured_by_its_score(whole: Sweep) -> None:
    found = whole.aggregates()
    assert found is not None and found.metric == "score"
    assert [(level.setting, level.runs) for level in found.levels] == [(FIRST, 2), (SECOND, 2)]
    first = found.levels[0]
    scores = [
        sum(e.score for e in f.results[0].episodes) / 8
        for f in whole.finished()
        if f.setting == FIRST
    ]
    assert first.iqm.mean == first.mean.mean == pytest.approx(sum(scores) / 2)
    assert first.optimality_gap is None
    assert first.mean.low < first.mean.mean < first.mean.high
    (comparison,) = found.comparisons
    assert (comparison.setting, comparison.against, comparison.pairs) == (SECOND, FIRST, 2)
    assert comparison.difference.mean == pytest.approx(found.levels[1].mean.mean - first.mean.mean)
    (band, _) = found.bands
    assert (band.metric, band.iterations) == ("return", [0, 1])
    returns = [read_metrics(r.run.metrics)[0]["return"] for r in whole.runs if r.setting == FIRST]
    assert band.values[0].mean == pytest.approx(sum(returns) / 2)


def test_the_record_has_settings_runs_and_aggregates(whole: Sweep) -> None:
    record = json.loads((whole.config.out / RECORD).read_text("utf-8"))
    assert record["settings"]["seeds"] == [3, 4] and record["settings"]["policy"] == "tiny"
    assert [run["state"] for run in record["runs"]] == ["finished"] * 4
    assert all(run["seconds"] > 0 for run in record["runs"])
    assert record["runs"][0]["results"][0]["env"] == "tests/AskFirst-v0"
    assert [level["runs"] for level in record["aggregates"]["levels"]] == [2, 2]
    assert record["against"] == FIRST


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Put a number of saved iterations in: the sweep is interrupted before the next is saved."""
    stops: list[int] = []
    done = [0]
    save = loop.State.save

    def interrupted(state: loop.State, run: RunFolder, iteration: int) -> None:
        if done[0] in stops:
            raise KeyboardInterrupt
        done[0] += 1
        save(state, run, iteration)

    monkeypatch.setattr(loop.State, "save", interrupted)
    yield stops


def test_a_stopped_sweep_goes_on_to_the_same_numbers(
    whole: Sweep, tmp_path: Path, stop_at: list[int]
) -> None:
    """Stopped in the middle of its second run: the metrics of an iteration are written, no more."""
    stop_at.append(3)
    out = tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        go(out)
    stop_at.clear()
    begun = Sweep.begin(replace(SWEEP, out=out))
    half = begun.runs[1]
    assert begun.waiting() == begun.runs[1:]
    assert half.run.iterations == 1 and half.resumable.resume
    same(go(out), whole)


def copied(whole: Sweep, tmp_path: Path) -> Path:
    """The same sweep in another folder, without what was measured."""
    out = tmp_path / "sweep"
    shutil.copytree(whole.config.out, out)
    shutil.rmtree(out / EVALUATIONS)
    return out


def test_a_sweep_stopped_in_an_evaluation_trains_nothing_again(
    whole: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(whole, tmp_path)
    monkeypatch.setattr(sweeping, "train_agent", None)
    write, written = matrix.KeptEpisodes.write, []

    def interrupted(*arguments: Any) -> None:
        write(*arguments)
        written.append(1)
        if len(written) == 1:  # after the first block of two
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(matrix.KeptEpisodes, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go(out)
    assert len(written) == 1
    same(go(out), whole)


def test_a_finished_sweep_does_nothing_again(whole: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "train_agent", None)
    again = go(whole.config.out, against=SECOND, split="dev")
    same(again, whole.__class__(again.config, again.runs))
    found = again.aggregates()
    assert found is not None and found.comparisons[0].against == SECOND


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": (3, 4, 5)}, "--seeds was 3 4 and is 3 4 5 now"),
        ({"iterations": 3}, "--iterations was 2 and is 3 now"),
        ({"ppo": PPOConfig(minibatches=1)}, "--ppo.learning-rate was 0.01 and is 0.00025 now"),
        ({"grid": ()}, "--grid was ppo.learning-rate=1e-3,1e-2 critic.epochs=3 and is empty now"),
    ],
)
def test_another_command_in_the_same_folder_is_refused(
    whole: Sweep, changed: dict[str, Any], said: str
) -> None:
    before = (whole.config.out / RECORD).read_bytes()
    with pytest.raises(UserError) as refused:
        Sweep.begin(replace(whole.config, **changed))
    assert said in str(refused.value) and "name another folder with --out" in str(refused.value)
    assert (whole.config.out / RECORD).read_bytes() == before


def test_what_is_done_about_failing_environments_may_change(whole: Sweep) -> None:
    patient = replace(whole.config.rollout, timeout=7.0)
    sweep = Sweep.begin(replace(whole.config, rollout=patient))
    assert all(planned.finished for planned in sweep.runs)


def test_a_broken_record_and_a_run_s_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{", "utf-8")
    with pytest.raises(UserError, match="it cannot be read; restore it, or delete it"):
        Sweep.begin(replace(SWEEP, out=tmp_path))
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="is a run or a file; name another with --out"):
        Sweep.begin(replace(SWEEP, out=tmp_path))


def test_a_run_that_fails_is_recorded_and_the_others_go_on(
    whole: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: TrainConfig, listener: Listener) -> Any:
        assert config.seed == 3 and config.ppo.learning_rate == 1e-2
        raise RunError("5 updates in a row were not finite")

    monkeypatch.setattr(sweeping, "train_agent", train)
    out = copied(whole, tmp_path)
    shutil.rmtree(out / SECOND / "seed-3")
    sweep = go(out)
    assert list(sweep.failures) == [f"{SECOND}, seed 3"]
    record = json.loads((out / RECORD).read_text("utf-8"))
    assert [run["state"] for run in record["runs"]] == ["finished", "failed", *["finished"] * 2]
    assert "not finite" in record["runs"][1]["failure"]
    found = sweep.aggregates()
    assert found is not None and [level.runs for level in found.levels] == [2, 1]
    assert found.comparisons[0].pairs == 1
    monkeypatch.undo()
    same(go(out), whole)  # tried again


def test_the_time_left_counts_episodes(tmp_path: Path) -> None:
    config = replace(SWEEP, out=tmp_path / "sweep", grid=("iterations=2,4",))
    sweep = Sweep.begin(config)
    assert sweep.left() != sweep.left()  # NaN: nothing is known yet
    half, full = sweep.runs[:2]
    sweep.seconds[half.name] = 10.0
    waiting = [r for r in sweep.runs if r is not half]
    sweep.waiting = lambda: waiting  # type: ignore[method-assign]
    assert sweep.left() == pytest.approx(20.0 + 10.0 + 20.0)
    sweep.seconds[full.name] = 5.0  # of a run that was stopped
    assert sweep.left() == pytest.approx(45.0)


def test_values_are_read_as_the_options_have_them() -> None:
    grid = (
        "adapter.method=lora,dora",
        "critic.privileged=true,false",
        "ppo.gamma-turn=None,0.5",
        "reward.weights=world=1,rules=0.5;world=1",
    )
    found = settings_of(TrainConfig(), grid)
    assert len(found) == 16
    last = found[-1].config
    assert (last.adapter.method, last.critic.privileged) == ("dora", False)
    assert (last.ppo.gamma_turn, last.reward.weights) == (0.5, "world=1")
    assert found[0].config.reward.weights == "world=1,rules=0.5"
    assert found[0].config.ppo.gamma_turn is None
    assert len({setting.folder for setting in found}) == 16


def test_only_a_whole_point_is_checked() -> None:
    """Eight minibatches need more episodes than there are by default."""
    found = settings_of(TrainConfig(episodes=6), ("ppo.minibatches=8", "episodes=8,16"))
    assert [s.config.episodes for s in found] == [8, 16]


def test_names_of_folders_are_readable_and_differ() -> None:
    grid = ("policy=a/b,a_b,a b", "ppo.beta=0.1")
    folders = [s.folder for s in settings_of(TrainConfig(), grid)]
    assert len(set(folders)) == 3
    assert folders[1] == "policy=a_b,ppo.beta=0.1"
    assert all("/" not in f and " " not in f for f in folders)
    (long,) = settings_of(TrainConfig(), (f"policy={'x' * 400}",))
    assert len(long.folder) < 200
