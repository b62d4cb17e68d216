"""What this machine is good at, found out by asking it."""

from __future__ import annotations

import math
import sys
import time
from functools import cache
from typing import Literal

import torch

from rlchat.errors import UserError

LONG_ENOUGH = 0.5  # seconds of measuring one dtype
DTypeName = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """The device of that name; auto takes a GPU if there is one.

    Raises:
        UserError: torch knows no such device, or it is not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"expected a device that is here, such as cpu; got {name!r}") from error


def peak_memory() -> float:
    """The most memory that this process has held at once, GiB; NaN where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@cache
def choose_dtype(
    name: DTypeName, device: torch.device, rows: int = 1024, repeats: int = 30
) -> torch.dtype:
    """The dtype of that name; auto takes bfloat16 if its products run clearly faster there."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32

    def seconds(dtype: torch.dtype) -> float:
        a, b = torch.ones(rows, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
        best, begun = float("inf"), time.perf_counter()
        for _ in range(repeats):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
            if time.perf_counter() - begun > LONG_ENOUGH:
                break  # so slow a dtype is not missed
        return best

    return (
        torch.bfloat16 if seconds(torch.bfloat16) < 0.7 * seconds(torch.float32) else torch.float32
    )
