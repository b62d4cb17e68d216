"""Keys and values of many conversations; test_decoder.py compares them with forwards of none."""

from __future__ import annotations

import psutil
import torch

from rlchat.inference.kv_cache import Cache, is_lazy, lazy_zeros


def test_lazy_zeros_take_memory_as_they_are_written() -> None:
    process, size = psutil.Process(), 2**28
    before = process.memory_info().rss
    x = lazy_zeros((4, size // 16), torch.float32)
    assert x.shape == (4, size // 16) and not x[3, ::5000].any()
    x[2, 7] = 1.5
    assert float(x.sum(1)[2]) == 1.5  # what is only read is taken from one page of zeros
    assert process.memory_info().rss - before < size / 8


def test_a_cache_is_lazy_where_rows_are_read_in_part() -> None:
    assert is_lazy(torch.zeros(1))
    assert not is_lazy(torch.zeros(1, dtype=torch.bfloat16))
    assert not is_lazy(torch.zeros(1, device="meta"))


def test_a_lazy_cache_holds_what_a_growing_one_holds() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, slots = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 69])
    key, value = torch.randn(2, 2, 3, 4, generator=generator)
    kept = []
    for lazy in (False, True):
        cache = Cache(2, 3, 100, lazy)
        cache.make_room(70, 3)
        cache.write(1, rows, slots, key, value)
        cache.copy(0, 1, 2)
        assert cache.layers[0] is None and cache.layers[1] is not None
        kept.append(torch.stack(cache.layers[1])[..., :70, :])
        assert torch.equal(kept[-1][0, 1, :, :2], key[:, :2].clone())
        assert torch.equal(kept[-1][1, 2, :, 69], value[:, 2])
    assert torch.equal(*kept)
