import platform
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from rlchat.models import device
from rlchat.models.device import choose_dtype, peak_memory, release_memory


def test_peak_memory_is_in_gibibytes() -> None:
    """A quarter of one, touched, moves the peak by no more than about as much."""
    before = peak_memory()
    np.ones(2**25)
    assert 0.2 < peak_memory() < before + 0.5
    assert peak_memory() >= before


def test_a_named_dtype_is_not_measured() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert choose_dtype("float32", cpu) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32  # it is not measured


@pytest.mark.parametrize(("ratio", "dtype"), [(0.6, torch.bfloat16), (0.8, torch.float32)])
def test_a_machine_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, dtype: torch.dtype
) -> None:
    """Whatever the file holds that is not a number for this machine is measured, and kept."""
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path))
    kept, cpu, asked = tmp_path / "precision.json", torch.device("cpu"), []

    def seconds(of: torch.dtype) -> float:
        asked.append(of)
        return ratio if of == torch.bfloat16 else 1.0

    monkeypatch.setattr(device, "seconds_of_products", seconds)
    for broken in (None, "{", "[]", '{"another machine": 0.1}'):
        if broken is not None:
            kept.write_text(broken)
        asked.clear()
        for _ in range(2):
            choose_dtype.cache_clear()
            assert choose_dtype("auto", cpu) == dtype
        assert len(asked) == 2
    kept.unlink()
    kept.mkdir()  # cannot be written: measured each time
    choose_dtype.cache_clear()
    assert choose_dtype("auto", cpu) == dtype
    choose_dtype.cache_clear()


PROCESSOR = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: {model}
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: {mhz}
flags\t\t: fpu avx2 {flags}
"""


def test_machines_that_share_a_home_keep_a_verdict_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though both call themselves AMD EPYC, of one family, with the same kinds of products."""
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path))
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    speed = {torch.bfloat16: 1.0, torch.float32: 1.0}
    asked = []

    def seconds(of: torch.dtype) -> float:
        asked.append(of)
        return speed[of]

    monkeypatch.setattr(device, "seconds_of_products", seconds)

    def chosen(model: int, bfloat16: float, mhz: str = "2445.406", flags: str = "") -> torch.dtype:
        (tmp_path / "cpuinfo").write_text(PROCESSOR.format(model=model, mhz=mhz, flags=flags))
        speed[torch.bfloat16] = bfloat16
        asked.clear()
        choose_dtype.cache_clear()
        return choose_dtype("auto", torch.device("cpu"))

    assert (chosen(1, 2.0), len(asked)) == (torch.float32, 2)
    assert (chosen(17, 0.3), len(asked)) == (torch.bfloat16, 2)
    assert (chosen(17, 0.3, flags="vaes"), len(asked)) == (torch.bfloat16, 2)
    assert (chosen(1, 0.1, mhz="3100.001"), len(asked)) == (torch.float32, 0)  # as it was
    assert (chosen(17, 9.0), len(asked)) == (torch.bfloat16, 0)
    choose_dtype.cache_clear()


def test_products_take_time() -> None:
    assert 0 < device.seconds_of_products(torch.float32, repeats=1) < 60


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks GNU's C library")
def test_freed_memory_is_given_back() -> None:
    """Blocks that lie between others, 60 MB of 120, stay with the C library until it is asked."""
    blocks = [torch.ones(30_000) for _ in range(1000)]  # too small to be mapped one by one
    del blocks[::2]
    before = psutil.Process().memory_info().rss
    release_memory()
    assert psutil.Process().memory_info().rss < before - 40e6
