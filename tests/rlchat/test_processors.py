"""How many threads compute, and how they wait: by what the machine gives, unless the user says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlchat import processors
from rlchat.processors import choose_threads, quota, usable_cores


def machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: set[int], siblings: dict[int, str]
) -> None:
    """Pretend to be on a machine, in no control group with a limit."""
    for processor, group in siblings.items():
        folder = tmp_path / "cpu" / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{group}\n")
    monkeypatch.setattr(processors, "_TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    groups(monkeypatch, tmp_path, "0::/\n", {})


def groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str]
) -> None:
    """Pretend to be in control groups."""
    (tmp_path / "self").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(processors, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors, "_OWN_GROUPS", tmp_path / "self")


def test_hyperthreads_of_one_core_count_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pairs = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    machine(monkeypatch, tmp_path, {0, 1, 2, 3}, pairs)
    assert usable_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})  # taskset -c 1,3
    assert usable_cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 7})  # of 7 nothing is known
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("limit", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 4), ("", 4)]
)
def test_a_containers_quota_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, cores: int
) -> None:
    machine(monkeypatch, tmp_path, {0, 1, 2, 3}, {})
    groups(monkeypatch, tmp_path, "0::/\n", {"cpu.max": f"{limit}\n"})
    assert usable_cores() == cores


def test_the_least_of_all_quotas_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new = {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}
    groups(monkeypatch, tmp_path, "0::/a/b\n", new)
    assert quota() == 3.0
    old = {"cpu/c/cpu.cfs_quota_us": "250000", "cpu/c/cpu.cfs_period_us": "100000"}
    groups(monkeypatch, tmp_path, "9:pids:/\n1:cpu,cpuacct:/c\n0::/a/b\n", old)
    assert quota() == 2.5
    groups(monkeypatch, tmp_path, "1:cpu:/c\n", {"cpu/c/cpu.cfs_quota_us": "-1"})
    assert quota() == float("inf")


def test_a_users_own_setting_wins() -> None:
    mine = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}
    choose_threads(mine)
    assert (mine["OMP_NUM_THREADS"], mine["OMP_WAIT_POLICY"]) == ("7", "ACTIVE")
    assert mine["GOMP_SPINCOUNT"] == "0"


def test_the_package_chooses_before_torch_is_loaded() -> None:
    show = (
        "import rlchat, os, sys; assert 'torch' not in sys.modules; import torch;"
        "print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads() == rlchat.processors"
        ".usable_cores())"
    )
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP", "KMP", "MKL"))}
    said = subprocess.run(
        [sys.executable, "-c", show], env=plain, capture_output=True, text=True, check=True
    )
    assert said.stdout == "PASSIVE True\n"
