"""The device and the precision to compute with, and what this machine has for either."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import platform
import sys
import time
from functools import cache
from pathlib import Path

import torch

from rlchat.errors import UserError
from rlchat.files import write_json
from rlchat.models.fetching.catalog import cache_dir
from rlchat.settings import DTypeName

LONG_ENOUGH = 0.5  # seconds of measuring one kind of product
CLEARLY = 0.7  # of the time of float32 is what half the precision has to pay with
PRODUCTS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # flags of processors
CPU_INFO = Path("/proc/cpuinfo")
IDENTITY = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part"),  # ARM's
)


def choose_device(name: str) -> torch.device:
    """The device of that name; auto takes a GPU if there is one.

    Raises:
        UserError: torch has no such device, or this machine has none.
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


def release_memory() -> None:
    """Give the system back what was freed, as far as the C library lets that be asked for.

    Tensors come and go in sizes that differ; GNU's malloc keeps what lies between those that stay:
    2 of 5.2 GiB after some iterations.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not GNU's, or not Linux
        ctypes.CDLL(None).malloc_trim(0)


@cache
def choose_dtype(name: DTypeName, device: torch.device) -> torch.dtype:
    """The dtype of that name; auto takes bfloat16 if its products run clearly faster there.

    What auto measured is kept beside the models, so that a machine is asked once, and a run that
    is resumed computes as it did before; each kind of machine that shares the folder has its own.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu":  # what is measured below is the CPU
        return torch.float32
    kept, here = cache_dir() / "precision.json", cpu_fingerprint()
    measured = _kept_ratios(kept)
    ratio = measured.get(here)
    if ratio is None:
        ratio = seconds_of_products(torch.bfloat16) / seconds_of_products(torch.float32)
        with contextlib.suppress(OSError, UserError):  # then it is measured again
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {**measured, here: ratio})
    return torch.bfloat16 if ratio < CLEARLY else torch.float32


def _kept_ratios(path: Path) -> dict[str, float]:
    """Read what was measured on this and on other machines; what is no number is left out."""
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    numbers = kept.items() if isinstance(kept, dict) else ()
    return {key: ratio for key, ratio in numbers if isinstance(ratio, float)}


def cpu_fingerprint() -> str:
    """`describe_cpu`, and what tells processors apart that go by one name, as in virtual machines.

    "AMD EPYC" alone may be any of four generations.
    """
    info = _cpu_info()
    own = {name: info[name] for name in IDENTITY if name in info}
    return f"{describe_cpu()}, {hashlib.sha256(json.dumps(own).encode()).hexdigest()[:12]}"


def _cpu_info() -> dict[str, str]:
    """Read what Linux tells of the last processor, by name; nothing elsewhere."""
    with contextlib.suppress(OSError):
        lines = CPU_INFO.read_text("utf-8").splitlines()
        return {line.split("\t")[0].strip(): line.partition(": ")[2] for line in lines}
    return {}


def describe_cpu() -> str:
    """Processor, its matrix instructions, threads and torch's version: what speed depends on."""
    info = _cpu_info()
    name = info.get("model name", platform.processor() or platform.machine())
    flags = [f for f in PRODUCTS if f in info.get("flags", "").split()]
    return (
        f"{name} family {info.get('cpu family', '?')} ({' '.join(flags) or 'plain'}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def seconds_of_products(dtype: torch.dtype, repeats: int = 30) -> float:
    """Best times of the products of a forward in training, and of decoding a few dozen rows.

    Weighed like an iteration of PPO: some six passes over many rows, and one over few.
    """
    total = 0.0
    for rows, weight in ((1024, 6), (64, 16)):  # 16 forwards of 64 rows are one of 1024
        a, b = torch.ones(rows, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
        best, begun = float("inf"), time.perf_counter()
        for _ in range(repeats):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
            if time.perf_counter() - begun > LONG_ENOUGH:
                break  # so slow a dtype is not missed
        total += weight * best
    return total
