import numpy as np
import torch

from rlchat.machine import choose_dtype, peak_memory


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
    assert choose_dtype("auto", cpu, rows=8, repeats=1) in (torch.bfloat16, torch.float32)
