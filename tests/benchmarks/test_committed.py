import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "speed"))

import committed

DECODE = {"date": "2026-11-26", "threads": 2, "rows": 32, "seconds": 0.2, "ratio": 2.0}
UPDATE = {
    "date": "2026-11-26",
    "threads": 2,
    "conversations": 32,
    "tokens": 5000,
    "seconds": 16.0,
    "usual_seconds": 40.0,
    "ratio_to_floor": 1.6,
    "ratio_to_usual": 2.5,
}
ROLLOUT = {
    "date": "2026-11-27",
    "threads": 2,
    "turns": 6,
    "seconds": 40.0,
    "usual_seconds": 120.0,
    "ratio_of_seconds": 3.0,
}
LOADED = {
    "date": "2026-11-28",
    "decode_ratio": 1.5,
    "update_ratio": 2.0,
    "passive_idle_gflops": 100.0,
    "passive_loaded_gflops": 60.0,
    "spinning_idle_gflops": 100.0,
    "spinning_loaded_gflops": 20.0,
}


@pytest.mark.parametrize(
    ("described", "family"),
    [
        ("AMD EPYC family 25 (avx2), 2 threads, torch 2.13.0", "AMD EPYC family 25 (avx2)"),
        (
            "AMD EPYC 7B13 64-Core Processor family 25 (avx2), 2 threads, torch 2.13.0",
            "AMD EPYC family 25 (avx2)",
        ),
        (
            "Intel(R) Xeon(R) CPU @ 2.20GHz family 6 (avx2 avx512f), 2 threads, torch 2.13.0",
            "Intel Xeon family 6 (avx2 avx512f)",
        ),
        (
            "13th Gen Intel(R) Core(TM) i7-1360P family 6 (avx2), 8 threads, torch 2.13.0",
            "Intel Core family 6 (avx2)",
        ),
        ("arm64 family ? (plain), 8 threads, torch 2.13.0", "arm64 family ? (plain)"),
        ("arm family ? (plain), 8 threads, torch 2.13.0", "arm family ? (plain)"),
    ],
)
def test_a_family_is_a_maker_a_number_and_instruction_sets(described: str, family: str) -> None:
    assert committed.family(described) == family


def test_numbers_stand_beside_the_committed_ones() -> None:
    """190 of 200 ms are .95 of them; 20 s for 5,000 tokens are 4 ms a token, 25% more than 3.2."""
    run = {
        "decode": DECODE | {"seconds": 0.19, "ratio": 2.1},
        "update": UPDATE | {"seconds": 20.0, "ratio_to_floor": 1.84, "ratio_to_usual": 2.0},
    }
    assert committed.comparison(run, {"decode": DECODE, "update": UPDATE}) == [
        "decode, a step: 190 ms, committed 200 ms (2026-11-26), ratio 0.95",
        "decode, times the floor: 2.10, committed 2.00 (2026-11-26), ratio 1.05",
        "update, a token: 4.00 ms, committed 3.20 ms (2026-11-26), ratio 1.25  SLOWER by 25%",
        "update, times the floor: 1.84, committed 1.60 (2026-11-26), ratio 1.15",
        "update, times as fast as the usual way: 2.0, committed 2.5 (2026-11-26), ratio 0.80"
        "  SLOWER by 25%",
    ]


def test_more_gflops_are_better() -> None:
    run = {"loaded": LOADED | {"passive_loaded_gflops": 90.0, "spinning_loaded_gflops": 10.0}}
    lines = committed.comparison(run, {"loaded": LOADED})
    assert lines[3:] == [
        "loaded, products, passive, loaded: 90 GFLOP/s, committed 60 GFLOP/s (2026-11-28), "
        "ratio 1.50",
        "loaded, products, spinning, idle: 100 GFLOP/s, committed 100 GFLOP/s (2026-11-28), "
        "ratio 1.00",
        "loaded, products, spinning, loaded: 10 GFLOP/s, committed 20 GFLOP/s (2026-11-28), "
        "ratio 0.50  SLOWER by 100%",
    ]


def test_other_sizes_are_not_compared() -> None:
    run = {
        "decode": DECODE | {"rows": 16, "threads": 4},
        "rollout 24": ROLLOUT,
        "growth": {"turns": []},
    }
    assert committed.comparison(run, {"decode": DECODE, "rollout 32": ROLLOUT}) == [
        "decode: not compared, as the committed numbers are of threads 2, rows 32",
        "rollout 24: no committed numbers",
    ]


def test_a_run_replaces_its_own_parts(tmp_path: Path) -> None:
    place = tmp_path / "speed.json"
    place.write_text(json.dumps({"A": {"float32": {"decode": DECODE, "rollout 32": ROLLOUT}}}))
    run = {"decode": {"threads": 2, "seconds": 0.123456, "ratio": 1.98765}, "growth": {"turns": []}}
    committed.keep(place, "A", "float32", run, "2026-12-01")
    committed.keep(place, "B", "bfloat16", {"loaded": {"decode_ratio": 1.5}}, "2026-12-02")
    decode = {"date": "2026-12-01", "threads": 2, "seconds": 0.1235, "ratio": 1.988}
    assert committed.read(place) == {
        "A": {"float32": {"decode": decode, "rollout 32": ROLLOUT}},
        "B": {"bfloat16": {"loaded": {"date": "2026-12-02", "decode_ratio": 1.5}}},
    }


def test_the_table_has_a_row_for_a_family_and_a_precision() -> None:
    parts = {"decode": DECODE, "update": UPDATE, "rollout 24": ROLLOUT, "rollout 32": ROLLOUT}
    families = {"A": {"float32": parts, "bfloat16": {"loaded": LOADED}}}
    assert committed.table(families) == (
        "| CPU | precision | measured | decode | update | rollout | beside a busy process |\n"
        "|---|---|---|---|---|---|---|\n"
        "| A | float32 | 2026-11-26, 2026-11-27 | 200 ms, 2.00 × floor "
        "| 16.0 s, 1.60 × floor, padded 40.0 s: 2.5 × "
        "| 24 episodes 40.0 s, anew 120.0 s: 3.0 ×; 32 episodes 40.0 s, anew 120.0 s: 3.0 × "
        "| not measured |\n"
        "| A | bfloat16 | 2026-11-28 | not measured | not measured | not measured "
        "| decode 1.50 ×, update 2.00 × |\n"
    )


def test_the_page_on_speed_shows_the_committed_numbers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "method" / "speed.md").read_text("utf-8")
    assert committed.table(committed.read()) in page, "put in what speed.py --table prints"
