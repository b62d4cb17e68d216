import numpy as np

from rlchat.machine import peak_memory


def test_peak_memory_is_in_gibibytes() -> None:
    """A quarter of one, touched, moves the peak by no more than about as much."""
    before = peak_memory()
    np.ones(2**25)
    assert 0.2 < peak_memory() < before + 0.5
    assert peak_memory() >= before
