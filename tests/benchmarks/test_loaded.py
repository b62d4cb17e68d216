import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlchat.errors import UserError

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "speed"))

import bench
import loaded
import waiting


def test_a_busy_process_ends_with_the_block() -> None:
    with pytest.raises(ZeroDivisionError), waiting.busy_process() as process:
        os.kill(process, 0)
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_busy_process_ends_when_who_started_it_was_killed() -> None:
    """Both hold the same standard error, which is at its end once both are gone."""
    script = (
        "import os, subprocess, sys, time\n"
        "command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, waiting.SPIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.kill()
        parent.communicate(timeout=30)


def test_a_waiting_policy_takes_the_place_of_the_environments() -> None:
    current = {"HOME": "/home", "OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "2"}
    assert waiting.environment("spinning", current) == {"HOME": "/home", "OMP_NUM_THREADS": "2"}
    assert waiting.environment("passive", current) == {
        "HOME": "/home",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
    }
    assert waiting.told(current) == "OMP_WAIT_POLICY=ACTIVE"
    assert waiting.told({}) == "OpenMP's default"


def test_what_is_loaded_is_told_in_lines() -> None:
    numbers = {
        "rows": 32,
        "context": 64,
        "steps": 8,
        "conversations": 8,
        "waiting": "OMP_WAIT_POLICY=PASSIVE",
        "decode_idle_seconds": 0.18,
        "decode_loaded_seconds": 0.27,
        "decode_ratio": 1.5,
        "update_idle_seconds": 4.0,
        "update_loaded_seconds": 7.0,
        "update_ratio": 1.75,
        "passive_idle_gflops": 100.0,
        "passive_loaded_gflops": 80.0,
        "spinning_idle_gflops": 100.0,
        "spinning_loaded_gflops": 20.0,
    }
    assert loaded.describe(numbers) == [
        "loaded, decode, 32 rows of 64 tokens: 180 ms a step idle, 270 ms beside one busy process: "
        "1.50 times as long (mean of 8 steps each; OMP_WAIT_POLICY=PASSIVE)",
        "loaded, update, 8 conversations: 4.0 s idle, 7.0 s beside one busy process: "
        "1.75 times as long (1 run each; OMP_WAIT_POLICY=PASSIVE)",
        "loaded, products of 256 x 576 x 1536 in float32, passive (OMP_WAIT_POLICY=PASSIVE "
        "GOMP_SPINCOUNT=0 KMP_BLOCKTIME=0): 100 GFLOP/s idle, 80 beside one busy process: "
        "1.25 times as long (1 run of 3 s each)",
        "loaded, products of 256 x 576 x 1536 in float32, spinning (OpenMP's default): "
        "100 GFLOP/s idle, 20 beside one busy process: 5.00 times as long (1 run of 3 s each)",
    ]


def test_numbers_of_another_model_are_not_kept() -> None:
    with pytest.raises(UserError, match="expected --keep with smollm2-135m"):
        bench.SpeedOptions(policy="tiny", keep=True)
    with pytest.raises(UserError, match="expected episodes of at least 1 each"):
        bench.SpeedOptions(episodes=())
