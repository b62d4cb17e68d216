"""`rlchat explain attention`: the drawing, the formula, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rlchat.cli.explain.attention import run_attention
from rlchat.cli.explain.options import AttentionOptions
from rlchat.cli.main import main


def shown(options: AttentionOptions, **how: object) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=80, **{"color_system": None, **how})  # type: ignore[arg-type]
    run_attention(options, console)
    return out.getvalue().splitlines()


def test_a_decoder_and_an_encoder_are_drawn(tmp_path: Path, tiny_encoder: Path) -> None:
    path = tmp_path / "heads.svg"
    models = f"tiny,{tiny_encoder}"
    lines = shown(AttentionOptions(sentence="A lamp", model=models, layer=0, head=0, out=path))
    assert lines[0].startswith("decoder tiny, layer 0, head 0: each token sees itself")
    assert lines[1].split() == [str(i) for i in range(6)]
    assert lines[2].split() == ["0", "A", "100"]  # it sees itself alone
    rows = [line.split()[2:] for line in lines[2:8]]
    assert [len(row) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(abs(sum(map(int, row)) - 100) <= 3 for row in rows)
    (start,) = (i for i, line in enumerate(lines) if line.startswith("encoder"))
    encoded = [line.split()[2:] for line in lines[start + 2 : start + 8]]
    assert [len(row) for row in encoded] == [6] * 6
    assert lines.count("attention(Q, K, V) = softmax(Q Kᵀ / √d) V") == 2
    assert path.read_text().startswith("<?xml")


def test_one_weight_is_worked_out() -> None:
    """What is printed can be put into a calculator."""
    options = AttentionOptions(sentence="A lamp", model="tiny", layer=1, head=2, from_=3, to=1)
    lines = shown(options)
    (product,) = (float(x.split("=")[1]) for x in lines if x.startswith("  q · k ="))
    (scaled,) = (float(x.split("=")[1].split()[0]) for x in lines if x.startswith("  q · k ×"))
    assert scaled == pytest.approx(product / 4, abs=1e-3)  # the root of 16
    last = next(x for x in lines if "/" in x and x.startswith("  ") and x[2].isdigit())
    numbers = [float(x) for x in last.replace("/", "=").split("=")]
    assert numbers[0] / numbers[1] == pytest.approx(numbers[2], abs=1e-3)
    assert lines[5].split()[3] == f"{100 * numbers[2]:.0f}"


def test_colors_where_there_are_any() -> None:
    lines = shown(
        AttentionOptions(sentence="A lamp", model="tiny"),
        color_system="truecolor",
        force_terminal=True,
    )
    assert any("\x1b[" in line and "48;2" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--layer 5", "expected --layer from 0 to 1; got 5"),
        ("--from 9", "expected --from from 0 to 5; got 9"),
        ("--from 1 --to 3", "does not see the later token 3"),
        ("--out heads.txt", "expected a file ending in .png"),
        ("--out nowhere/heads.png", "expected a file in a folder that exists"),
        ("--model nobody", "'nobody'"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    words: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["explain", "attention", "A lamp", "--model", "tiny", *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
