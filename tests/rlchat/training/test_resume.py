"""Same seed, same run; a resumed run is the uninterrupted one (ppo.md, test 8)."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from rich.console import Console

from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.cli.train import run_training
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_hash
from rlchat.models.config import AdapterConfig
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.training import loop, pipeline, run_folder
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.pipeline import resumed
from rlchat.training.run_folder import RunFolder, read_metrics, to_json

ITERATIONS = 4
CONFIG = TrainConfig(
    env="tests/AskFirst-v0",
    policy="tiny",
    iterations=ITERATIONS,
    episodes=6,
    seed=3,
    evaluation=0,
    adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
    warm_start=WarmStartConfig(demonstrations=0),
    rollout=RolloutConfig(rows=4, max_new_tokens=2, max_tokens=256),
    # All that has a state: the controller, running moments, both optimizers, the critic's warm-up.
    ppo=PPOConfig(learning_rate=1e-2, minibatches=2, kl_target=0.01, critic_warmup=1, layers=0.5),
    critic=CriticConfig(width=8, epochs=3),
)


@pytest.fixture(scope="module", autouse=True)
def text_envs() -> None:
    folder = str(Path(__file__).parents[1])
    sys.path.insert(0, folder)
    importlib.import_module("text_envs")
    sys.path.remove(folder)


def go(folder: Path, config: TrainConfig = CONFIG, **changed: Any) -> RunFolder:
    run_training(replace(config, run=folder, **changed), Console(file=io.StringIO()))
    return RunFolder(folder)


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    """The metrics without what a clock says."""
    return [
        {k: v for k, v in row.items() if "second" not in k and k != "peak_memory"}
        for row in read_metrics(run.metrics)
    ]


def same(a: RunFolder, b: RunFolder) -> None:
    """Bit for bit: adapter, checkpoint, metrics, and what was said."""
    assert timeless(a) == timeless(b)
    for name in ("adapter/adapter_model.safetensors", "checkpoint/state.safetensors"):
        assert (a.folder / name).read_bytes() == (b.folder / name).read_bytes(), name
    assert a.load_checkpoint()[1] == b.load_checkpoint()[1]
    for one, other in ((a.transcripts, b.transcripts), (a.tokens, b.tokens)):
        written = sorted(p.name for p in one.iterdir())
        assert written == [f"{i:04d}.jsonl" for i in range(ITERATIONS)]
        for name in written:
            assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text_envs: None) -> RunFolder:
    """A run that nothing interrupted."""
    return go(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Put an iteration in: the run is interrupted there, its metrics written, its state not."""
    stops: list[int] = []
    save = loop.State.save

    def interrupted(state: loop.State, run: RunFolder, iteration: int) -> None:
        if iteration in stops:
            raise KeyboardInterrupt
        save(state, run, iteration)

    monkeypatch.setattr(loop.State, "save", interrupted)
    yield stops


def test_the_same_seed_is_the_same_run(whole: RunFolder, tmp_path: Path) -> None:
    torch.manual_seed(99)  # nothing hangs on the global state
    same(go(tmp_path / "again"), whole)
    rows = timeless(whole)
    assert [row["iteration"] for row in rows] == list(range(ITERATIONS))
    assert len({row["beta"] for row in rows}) > 1  # the controller did something
    assert rows[-1]["kl_k3"] > 0
    assert whole.load_checkpoint()[1]["iteration"] == ITERATIONS - 1


def test_another_seed_is_another_run(whole: RunFolder, tmp_path: Path) -> None:
    other = go(tmp_path / "other", seed=4, iterations=1)
    assert timeless(other)[0] != timeless(whole)[0]


def test_options_younger_than_a_run_had_their_defaults(tmp_path: Path) -> None:
    """So that what was not there cannot be changed in the middle of a run."""
    run = RunFolder(tmp_path)
    recorded = to_json(asdict(CONFIG)) | {"resolved": {"dtype": "float32"}}
    del recorded["stated_style"], recorded["reward"]["rubric"], recorded["reward"]["judge"]
    recorded["reward"]["span"] = recorded["reward"].pop("granularity")  # its name of before
    run.folder.joinpath("config.json").write_text(json.dumps(recorded))
    assert resumed(CONFIG, run)
    with pytest.raises(UserError, match=r"--stated-style was '' and is 'brief' now"):
        resumed(replace(CONFIG, stated_style="brief"), run)
    judged = replace(CONFIG.reward, rubric="default", judge="tiny")
    with pytest.raises(UserError, match=r"--reward.rubric was '' and is 'default' now"):
        resumed(replace(CONFIG, reward=judged), run)


@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_run_is_the_uninterrupted_one(
    done: int, whole: RunFolder, tmp_path: Path
) -> None:
    """Finished after so many iterations, and told afterwards to do more."""
    folder = tmp_path / "run"
    go(folder, iterations=done)
    assert len(timeless(RunFolder(folder))) == done
    same(go(folder, resume=True), whole)


def test_an_interrupted_run_goes_on_from_the_last_whole_iteration(
    whole: RunFolder, tmp_path: Path, stop_at: list[int]
) -> None:
    """Stopped between metrics and checkpoint: what was half done is done again."""
    folder = tmp_path / "run"
    stop_at.append(2)
    with pytest.raises(KeyboardInterrupt):
        go(folder)
    assert len(timeless(RunFolder(folder))) == 3
    stop_at.clear()
    # And the power went while the line was written.
    with RunFolder(folder).metrics.open("a", encoding="utf-8") as file:
        file.write('{"iteration": 3, "retu')
    assert len(timeless(RunFolder(folder))) == 3
    same(go(folder, resume=True), whole)


def test_a_run_stopped_in_its_first_iteration_starts_again(
    whole: RunFolder, tmp_path: Path, stop_at: list[int]
) -> None:
    folder = tmp_path / "run"
    stop_at.append(0)
    with pytest.raises(KeyboardInterrupt):
        go(folder)
    assert not RunFolder(folder).checkpoint.exists()
    stop_at.clear()
    same(go(folder, resume=True), whole)


def test_a_run_killed_while_its_checkpoint_was_replaced_goes_on(
    whole: RunFolder, tmp_path: Path
) -> None:
    """In the instant between two renames only the old checkpoint exists, under another name."""
    run = go(tmp_path / "run", iterations=2)
    run.checkpoint.rename(run.folder / ".checkpoint.old")
    before = run.metrics.read_text("utf-8")
    same(go(run.folder, resume=True), whole)
    assert run.metrics.read_text("utf-8").startswith(before)  # clocks included: not done again


def test_a_shared_critic_is_resumed_too(tmp_path: Path) -> None:
    shared = replace(CONFIG, critic=replace(CONFIG.critic, states="shared"))
    one = go(tmp_path / "one", shared)
    go(tmp_path / "two", shared, iterations=2)
    same(go(tmp_path / "two", shared, resume=True), one)


def test_what_a_run_began_with_need_not_be_there_when_it_goes_on(
    whole: RunFolder, tmp_path: Path
) -> None:
    """The run has it: its warm start is the adapter that --policy named."""
    first = tmp_path / "first"
    shutil.copytree(whole.folder, first)
    going_on = replace(
        CONFIG, policy=str(first), adapter=AdapterConfig(dtype="float32", device="cpu")
    )
    one = go(tmp_path / "one", going_on, iterations=2)
    go(tmp_path / "two", going_on, iterations=1)
    shutil.rmtree(first)
    two = go(tmp_path / "two", going_on, iterations=2, resume=True, evaluation=2)
    assert timeless(one) == timeless(two)
    assert adapter_hash(one.adapter) == adapter_hash(two.adapter)
    assert json.loads(two.start.read_text("utf-8"))["results"][0]["agent"] == "start"


def test_a_resume_with_nothing_to_do_changes_nothing(whole: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    go(folder, resume=True)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    same(RunFolder(folder), whole)


def test_a_checkpoint_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    run.save_checkpoint({"x": torch.tensor([1.0])}, {"iteration": 1})

    def full(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_json", full)  # the tensors are written, the rest is not
        with pytest.raises(KeyboardInterrupt):
            run.save_checkpoint({"x": torch.tensor([2.0])}, {"iteration": 2})
    tensors, state = run.load_checkpoint()
    assert state == {"iteration": 1}
    assert tensors["x"].tolist() == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]  # nothing is left about
    run.save_checkpoint({"x": torch.tensor([3.0])}, {"iteration": 3})
    tensors, state = run.load_checkpoint()
    assert (state["iteration"], tensors["x"].tolist()) == (3, [3.0])


def test_the_number_of_iterations_is_known_without_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    assert run.iterations == 0
    run.save_checkpoint({"x": torch.tensor([1.0])}, {"iteration": 1})

    def read(path: Path) -> dict[str, torch.Tensor]:
        raise AssertionError(f"read {path}")

    monkeypatch.setattr(run_folder, "load_file", read)
    assert run.iterations == 2


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_broken_checkpoint_is_named(name: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.save_checkpoint({"x": torch.tensor([1.0])}, {"iteration": 1})
    (run.checkpoint / name).write_bytes(b"{")
    with pytest.raises(UserError, match="expected a whole checkpoint"):
        run.load_checkpoint()


def test_a_torn_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append(0, {"iteration": 0, "return": 1.0}, [])
    run.append(1, {"iteration": 1, "return": float("nan")}, [])
    text = run.metrics.read_text("utf-8")
    run.metrics.write_text(text + '{"iteration": 2, "re', "utf-8")
    kept = [{"iteration": 0, "return": 1.0}, {"iteration": 1, "return": None}]
    assert read_metrics(run.metrics) == kept
    run.append(2, {"iteration": 2, "return": 2.0}, [])
    assert read_metrics(run.metrics) == [*kept, {"iteration": 2, "return": 2.0}]
    assert [json.loads(line)["iteration"] for line in run.metrics.open()] == [0, 1, 2]


@pytest.mark.parametrize(
    "name, change",
    [
        ("seed", {"seed": 4}),
        ("episodes", {"episodes": 8}),
        ("env", {"env": "tests/Delayed-v0"}),
        ("ppo.beta", {"ppo": replace(CONFIG.ppo, beta=0.1)}),
        ("critic.loss-weight", {"critic": replace(CONFIG.critic, loss_weight=0.2)}),
        ("adapter.rank", {"adapter": replace(CONFIG.adapter, rank=8)}),
    ],
)
def test_other_settings_are_refused(
    name: str, change: dict[str, Any], whole: RunFolder, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=f"--{name} was .* now; give the same"):
        go(whole.folder, resume=True, **change)
    assert {p: p.read_bytes() for p in whole.folder.rglob("*") if p.is_file()} == before


def test_a_run_is_not_overwritten(whole: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a run; go on with --resume"):
        go(whole.folder)
    with pytest.raises(UserError, match=r"expected a run folder with a config\.json"):
        go(tmp_path / "nothing", resume=True)


def test_the_record_follows_the_iterations(tmp_path: Path) -> None:
    run = go(tmp_path, iterations=2)
    assert (run.iterations, run.read_config()["iterations"]) == (2, 2)
    before = run.adapter / "adapter_model.safetensors"
    learned = before.read_bytes()
    go(tmp_path, iterations=1, resume=True)  # nothing that was learned is given up
    assert (run.iterations, run.read_config()["iterations"]) == (2, 2)
    assert before.read_bytes() == learned
    go(tmp_path, iterations=3, resume=True)
    assert (run.iterations, run.read_config()["iterations"]) == (3, 3)


def test_a_run_goes_on_in_its_own_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What auto became is recorded: measuring it again might give another."""
    run, config = RunFolder(tmp_path), TrainConfig(policy="tiny", resume=True)
    run.write_config(config, {"dtype": "bfloat16"})
    run.warm_start.mkdir()
    made: list[AdapterConfig] = []
    monkeypatch.setattr(pipeline, "base_spec", lambda _: "tiny")
    create = Mock(side_effect=lambda _, adapter, *more: made.append(adapter) or Mock())
    monkeypatch.setattr(Policy, "create", create)
    pipeline.prepare(config, run, Distributed(cpu=True), Listener())
    assert [adapter.dtype for adapter in made] == ["bfloat16"]
