"""The trained agents of the package: whole, small, and fit for today's world and template."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import starters as bench

from rlchat.cli.main import main
from rlchat.errors import UserError
from rlchat.inference.load_agent import load_agent
from rlchat.models.adapter_io import adapter_folder, adapter_hash
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.fetching.catalog import list_models
from rlchat.models.starters import STARTERS, read_card
from rlchat.models.tiny import byte_tokenizer
from rlchat.statistics import Interval

HERE = {model.name for model, here in list_models() if here}
STALE = "the starters no longer fit; python benchmarks/starters.py --keep makes them anew"


def test_they_are_whole_small_and_in_half_precision() -> None:
    card = read_card()
    for name, starter in STARTERS.items():
        assert adapter_folder(name) == starter.folder
        assert adapter_hash(starter.folder) == card["adapters"][name] == load_agent(name).version
        assert starter.megabytes < 6
        weights = load_file(starter.folder / "adapter_model.safetensors")
        assert {w.dtype for w in weights.values()} == {torch.bfloat16}
        peft = json.loads((starter.folder / "adapter_config.json").read_text())
        assert peft["base_model_name_or_path"] == "smollm2-135m"


def test_they_fit_todays_world_and_words() -> None:
    fits, spoken = read_card()["fits"], bench.conversations()
    said = [[(m.role, m.content) for m in c] for c in spoken]
    assert bench.hash_of(said) == fits["world"], STALE
    assert bench.rendered(spoken, ChatTemplate(byte_tokenizer())) == fits["rendering"], STALE


@pytest.mark.skipif("smollm2-135m" not in HERE, reason="the base model is not in the cache")
def test_they_fit_todays_base_and_template() -> None:
    assert bench.fits(STARTERS["starter"].folder) == read_card()["fits"], STALE


def test_practice_has_helped_beyond_noise() -> None:
    """The card says so of both sides, and `models list` shows it."""
    card = read_card()
    assert all(card["gain"][side]["low"] > 0 for side in bench.SIDES)
    assert card["success"]["starter"]["mean"] > card["success"]["starter:warm-start"]["mean"]


def test_the_list_of_models_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "starter:warm-start" in shown and "Support-v0's desk" in shown


@pytest.mark.skipif("smollm2-135m" not in HERE, reason="the base model is not in the cache")
@pytest.mark.long
def test_they_can_be_measured_against_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "starter", "--against", "starter:warm-start", "--episodes", "2"]
    assert main(words) == 0
    assert "starter minus starter:warm-start" in capsys.readouterr().out


def test_a_package_without_them_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rlchat.models.starters.FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"expected the adapter starter in .*install rlchat again"):
        adapter_folder("starter")


def test_rounding_halves_an_adapter_and_names_its_base(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    save_file({"a": torch.tensor([1.0, 1.0 + 2**-9, -3.0])}, made / "adapter_model.safetensors")
    (made / "rlchat_base.json").write_text('{"spec": "tiny", "source": "x", "weights_sha256": "y"}')
    (made / "adapter_config.json").write_text('{"r": 4, "base_model_name_or_path": "/somewhere"}')
    bench.round_adapter(made, tmp_path / "rounded")
    weights = load_file(tmp_path / "rounded" / "adapter_model.safetensors")
    assert weights["a"].dtype == torch.bfloat16
    assert weights["a"].tolist() == [1.0, 1.0, -3.0]  # eight bits: 2^-9 is lost
    peft = json.loads((tmp_path / "rounded" / "adapter_config.json").read_text())
    assert peft == {"r": 4, "base_model_name_or_path": "tiny"}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.5, 0.6, "the intervals overlap"),
        (0.75, 0.9, "the intervals overlap"),
        (0.81, 0.9, "THE INTERVALS DO NOT OVERLAP"),
        (0.1, 0.49, "THE INTERVALS DO NOT OVERLAP"),
    ],
)
def test_intervals_are_compared(low: float, high: float, verdict: str) -> None:
    """With 50% to 80%, committed as 65%."""
    said = bench.beside(Interval((low + high) / 2, low, high), Interval(0.65, 0.5, 0.8))
    assert said == f"committed 65.0% (50.0% … 80.0%): {verdict}"
