"""The committed numbers of each CPU family: compared with a run's, written, shown as a table.

speed.json maps a family's name to dtypes, those to parts, and those to what was measured: the date,
what the numbers depend on, and the numbers in seconds, GFLOP/s and ratios.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlchat.files import write_json

PLACE = Path(__file__).with_name("speed.json")
SLOWER = 1.15  # times as slow is told
# What numbers depend on: they are compared only where all of these agree.
SETTINGS = ("policy", "threads", "rows", "context", "conversations", "turns")
NOISE_WORDS = ("CPU", "Processor", "Gen")
FLOOR, USUAL = "times the floor", "times as fast as the usual way"

Measured = Mapping[str, Any]
Parts = Mapping[str, Measured]  # "decode", "update", "rollout 24", "loaded"
Families = dict[str, dict[str, dict[str, dict[str, Any]]]]  # family -> dtype -> parts


@dataclass(frozen=True)
class Number:
    """One number of a part that is compared."""

    label: str
    value: Callable[[Measured], float]
    shown: str
    more_is_better: bool = False


NUMBERS: dict[str, tuple[Number, ...]] = {
    "decode": (
        Number("a step", lambda m: 1e3 * m["seconds"], "{:.0f} ms"),
        Number(FLOOR, lambda m: m["ratio"], "{:.2f}"),
    ),
    "update": (
        # Openings have changed, and with them how many tokens the same conversations have.
        Number("a token", lambda m: 1e3 * m["seconds"] / m["tokens"], "{:.2f} ms"),
        Number(FLOOR, lambda m: m["ratio_to_floor"], "{:.2f}"),
        Number(USUAL, lambda m: m["ratio_to_usual"], "{:.1f}", more_is_better=True),
    ),
    "rollout": (
        Number("ours", lambda m: m["seconds"], "{:.1f} s"),
        Number("the usual way", lambda m: m["usual_seconds"], "{:.1f} s"),
        Number(USUAL, lambda m: m["ratio_of_seconds"], "{:.1f}", more_is_better=True),
    ),
    "loaded": (
        Number("decode, loaded over idle", lambda m: m["decode_ratio"], "{:.2f}"),
        Number("update, loaded over idle", lambda m: m["update_ratio"], "{:.2f}"),
        *(
            Number(
                f"products, {waits}, {state}",
                lambda m, name=f"{waits}_{state}_gflops": m[name],  # type: ignore[misc]
                "{:.0f} GFLOP/s",
                more_is_better=True,
            )
            for waits in ("passive", "spinning")
            for state in ("idle", "loaded")
        ),
    ),
}


def family(description: str) -> str:
    """A CPU's family and instruction sets, out of what ``describe_cpu`` says of the machine.

    >>> family("AMD EPYC 7B13 64-Core Processor family 25 (avx2), 2 threads, torch 2.13.0")
    'AMD EPYC family 25 (avx2)'
    """
    found = re.match(r"(.*) family (\S+) \(([^)]*)\)", description)
    if found is None:
        return description
    name, number, flags = found.groups()
    words = re.sub(r"\((R|TM|tm)\)", "", name).split()
    named = [w for w in words if w not in NOISE_WORDS]
    while named and not named[0].isalpha():  # "13th Gen Intel Core …"
        named.pop(0)
    end = next((i for i, word in enumerate(named) if not word.isalpha()), len(named))
    return f"{' '.join(named[:end]) or name} family {number} ({flags})"


def read(place: Path = PLACE) -> Families:
    """The committed numbers."""
    families: Families = json.loads(place.read_text("utf-8"))
    return families


def keep(place: Path, name: str, dtype: str, parts: Parts, date: str) -> None:
    """Write a run's parts in the place of the committed ones; other parts stay.

    Args:
        place: the file.
        name: of the CPU's family.
        dtype: of the run.
        parts: of the run; growth has a figure of its own and is left out.
        date: of the run, such as 2026-11-26.
    """
    families = read(place)
    kept = families.setdefault(name, {}).setdefault(dtype, {})
    for key, measured in parts.items():
        if _numbers(key):
            kept[key] = {"date": date} | {k: _short(v) for k, v in measured.items()}
    write_json(place, families)


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def comparison(parts: Parts, kept: Parts) -> list[str]:
    """Lines that show each number of a run beside the committed one, and what is slower."""
    lines = []
    for key, measured in parts.items():
        if not _numbers(key):
            continue
        if key not in kept:
            lines.append(f"{key}: no committed numbers")
        elif others := _other_settings(measured, kept[key]):
            lines.append(f"{key}: not compared, as the committed numbers are of {others}")
        else:
            pairs = [(n, n.value(measured), n.value(kept[key])) for n in _numbers(key)]
            lines += [_line(f"{key}, {n.label}", n, a, b, kept[key]["date"]) for n, a, b in pairs]
    return lines


def _line(what: str, number: Number, now: float, before: float, date: str) -> str:
    slower = before / now if number.more_is_better else now / before
    flag = f"  SLOWER by {100 * (slower - 1):.0f}%" if slower > SLOWER else ""
    now_shown, before_shown = (number.shown.format(x) for x in (now, before))
    return f"{what}: {now_shown}, committed {before_shown} ({date}), ratio {now / before:.2f}{flag}"


def _numbers(key: str) -> tuple[Number, ...]:
    return NUMBERS.get(key.split()[0], ())


def _other_settings(measured: Measured, kept: Measured) -> str:
    """Settings of committed numbers that are not the run's, for people."""
    shared = [name for name in SETTINGS if name in measured and name in kept]
    return ", ".join(f"{n} {kept[n]}" for n in shared if measured[n] != kept[n])


def table(families: Families) -> str:
    """The committed numbers as Markdown, a row for each CPU family and precision."""
    lines = [
        "| CPU | precision | measured | decode | update | rollout | beside a busy process |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, dtypes in families.items():
        for dtype, parts in dtypes.items():
            dates = ", ".join(sorted({m["date"] for m in parts.values()}))
            cells = [_cell(parts, part) for part in NUMBERS]
            lines.append(f"| {name} | {dtype} | {dates} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(parts: Parts, part: str) -> str:
    shown = [CELLS[part](key, m) for key, m in parts.items() if key.split()[0] == part]
    return "; ".join(shown) or "not measured"


def _decode_cell(key: str, m: Measured) -> str:
    return f"{1e3 * m['seconds']:.0f} ms, {m['ratio']:.2f} × floor"


def _update_cell(key: str, m: Measured) -> str:
    return (
        f"{m['seconds']:.1f} s, {m['ratio_to_floor']:.2f} × floor, "
        f"padded {m['usual_seconds']:.1f} s: {m['ratio_to_usual']:.1f} ×"
    )


def _rollout_cell(key: str, m: Measured) -> str:
    return (
        f"{key.split()[1]} episodes {m['seconds']:.1f} s, anew {m['usual_seconds']:.1f} s: "
        f"{m['ratio_of_seconds']:.1f} ×"
    )


def _loaded_cell(key: str, m: Measured) -> str:
    return f"decode {m['decode_ratio']:.2f} ×, update {m['update_ratio']:.2f} ×"


CELLS: dict[str, Callable[[str, Measured], str]] = {
    "decode": _decode_cell,
    "update": _update_cell,
    "rollout": _rollout_cell,
    "loaded": _loaded_cell,
}
