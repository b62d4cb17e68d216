"""Two processes train as one does (ppo.md, test 7), and the script runs under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlchat.training.run_folder import RunFolder, read_metrics

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).parent / "workers" / "one_iteration.py"
# After the two dashes torchrun no longer takes our --run for a short form of its --run-path.
TWO = [
    *(sys.executable, "-m", "torch.distributed.run"),
    *("--standalone", "--nproc_per_node", "2", "--"),
]


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run with one thread a process; a pair that waits for one another forever is ended."""
    rooms = [str(ROOT / room) for room in ("envs", "reward_models", ".")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(rooms)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def iterations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of one process and of two."""
    folder = tmp_path_factory.mktemp("iterations")
    run(sys.executable, str(WORKER), str(folder), cwd=folder)
    return folder


@pytest.fixture
def alone(iterations: Path) -> Path:
    return iterations / "alone"


@pytest.fixture
def together(iterations: Path) -> Path:
    return iterations / "together"


def test_two_processes_play_the_episodes_of_one(alone: Path, together: Path) -> None:
    one, two = (json.loads((f / "episodes.json").read_text("utf-8")) for f in (alone, together))
    assert (one["count"], two["count"]) == (1, 2)
    assert (one["own"], two["own"]) == ([0, 1, 2, 3, 4], [0, 2, 4])  # there really were two
    assert one["all"] == two["all"]  # seeds, token ids and action masks
    assert all(sum(mask) > 8 for *_, mask in one["all"])


def test_two_processes_have_the_gradient_of_one(alone: Path, together: Path) -> None:
    one, two = (load_file(f / "gradients.safetensors") for f in (alone, together))
    assert one.keys() == two.keys()
    assert max(float(g.abs().max()) for g in one.values()) > 1e-2
    for name, gradient in one.items():
        assert float((gradient - two[name]).abs().max()) < 1e-5, name


def test_two_processes_have_the_metrics_of_one(alone: Path, together: Path) -> None:
    """Of an iteration with two optimizer steps: the second saw what the first did."""
    (one,), (two,) = (read_metrics(RunFolder(f / "run").metrics) for f in (alone, together))
    assert one.keys() == two.keys()
    for name, value in one.items():
        if "second" not in name and name != "peak_memory":  # those are the machine's
            # Adam amplifies rounding, and the second step's norm is taken after the first.
            tolerance = 1e-2 if name == "gradient_norm" else 1e-4
            expected = value if value is None else pytest.approx(value, rel=tolerance, abs=1e-5)
            assert two[name] == expected, name
    name = "transcripts/0000.jsonl"
    assert (alone / "run" / name).read_text("utf-8") == (together / "run" / name).read_text("utf-8")


@pytest.mark.long
def test_the_script_trains_under_torchrun(tmp_path: Path) -> None:
    """Warm start included, which only the first process makes; one run folder, one voice."""
    done = run(
        *TWO,
        str(ROOT / "scripts" / "train_ppo.py"),
        *("--env", "rlchat/Support-v0", "--policy", "tiny", "--run", "here"),
        *("--iterations", "2", "--episodes", "4", "--ppo.minibatches", "2", "--evaluation", "2"),
        *("--warm-start.demonstrations", "4", "--warm-start.epochs", "1"),
        *("--rollout.max-new-tokens", "8", "--rollout.max-tokens", "700"),
        *("--adapter.rank", "4", "--adapter.dtype", "float32", "--adapter.device", "cpu"),
        cwd=tmp_path,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["here"]
    folder = RunFolder(tmp_path / "here")
    assert folder.read_config()["resolved"]["processes"] == 2
    assert [row["iteration"] for row in read_metrics(folder.metrics)] == [0, 1]
    for i in range(2):
        for place in (folder.transcripts, folder.tokens):
            lines = (place / f"{i:04d}.jsonl").read_text("utf-8").splitlines()
            assert [json.loads(line)["index"] for line in lines] == [0, 1, 2, 3]
    assert (folder.adapter / "adapter_model.safetensors").is_file()
    assert done.stdout.count("Talk to it:") == 1
    assert done.stdout.count("iteration 1 ") == 1
    assert done.stdout.count("validation loss") == 1
