"""Model cards: what the hub's own reader makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import EvalResult, ModelCard
from safetensors.torch import load_file, save_file

from rlchat.models.adapter_io import adapter_hash
from rlchat.models.config import AdapterConfig
from rlchat.rewards.config import RewardConfig
from rlchat.training.config import SFTConfig, TrainConfig, WarmStartConfig
from rlchat.training.inspection.model_card import leave_card
from rlchat.training.pipeline import sft
from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions


def test_the_hub_reads_results_with_their_intervals(finished_run: Path) -> None:
    card = ModelCard.load(finished_run / "README.md")
    results = card.data.eval_results
    assert card.data.model_name == "demo"
    assert (card.data.library_name, card.data.license) == ("peft", "apache-2.0")
    assert {"rlchat", "ppo", "lora"} <= set(card.data.tags)
    kept = json.loads((finished_run / "evaluation.json").read_text())["results"]
    (after,) = (result for result in kept if result["agent"] == "PPO")
    assert results and all(isinstance(result, EvalResult) for result in results)
    assert {r.metric_type for r in results} == {"success", "score", "turns"}  # nothing was unsafe
    for result in results:
        interval = after["metrics"][result.metric_type.replace("_", " ")]
        assert result.metric_value == pytest.approx(interval["mean"], abs=1e-4)
        assert result.metric_args["low"] == pytest.approx(interval["low"], abs=1e-4)
        assert result.metric_args["high"] == pytest.approx(interval["high"], abs=1e-4)
        assert (result.dataset_type, result.dataset_split) == ("rlchat/Support-v0", "dev")
        assert result.dataset_args["episodes"] == 4
    # What is written anew from what was read says the same.
    again = ModelCard(f"---\n{card.data.to_yaml()}\n---\n")
    assert again.data.eval_results == results


def test_it_tells_data_settings_and_limits(finished_run: Path) -> None:
    text = (finished_run / "README.md").read_text()
    for heading in ("Results", "Data", "Settings", "Limits", "Use"):
        assert f"\n## {heading}\n" in text
    assert "imitation of 12 conversations of the scenario's scripted demonstrator" in text
    assert adapter_hash(finished_run / "adapter")[:12] in text
    assert "| demonstrator |" in text and "PPO minus warm start" in text
    assert str(finished_run.parent) not in text


def test_a_card_that_a_person_has_taken_over_stays(finished_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(finished_run, tmp_path / "other"))
    config = TrainConfig(reward=RewardConfig(weights="world=1"))
    leave_card(run, [], config)
    card = run.folder / "README.md"
    assert "model-index" not in card.read_text() and "world=1" in card.read_text()
    assert ModelCard.load(card).data.eval_results is None
    card.write_text("Mine.")
    leave_card(run, [], config)
    assert card.read_text() == "Mine."


def changed(adapter: Path, out: Path) -> Path:
    """An adapter with other weights."""
    shutil.copytree(adapter, out)
    weights = load_file(out / "adapter_model.safetensors")
    moved = {name: torch.zeros_like(value) for name, value in weights.items()}
    save_file(moved, out / "adapter_model.safetensors")
    return out


def test_another_version_of_the_adapter_has_no_results_of_the_trained_one(
    finished_run: Path, tmp_path: Path
) -> None:
    run = RunFolder(shutil.copytree(finished_run, tmp_path / "demo"))
    card, versions = run.folder / "README.md", Versions(run)
    trained = card.read_text()
    versions.begin()
    for name in ("one", "two"):
        new = changed(run.adapter, tmp_path / name)
        versions.use(versions.keep(new, "6 good and 6 bad thumbs").number)
    text = card.read_text()
    assert "**The adapter is version 2 now** (6 good and 6 bad thumbs" in text
    assert adapter_hash(run.adapter)[:12] in text
    assert ModelCard.load(card).data.eval_results is None
    assert "\n## Results of the training\n" in text and "conversation of a person" not in text
    versions.use(0)
    assert card.read_text() == trained
    card.write_text("Mine.")
    versions.use(2)
    assert card.read_text() == "Mine."
    card.unlink()
    versions.use(1)
    assert not card.exists()


def test_what_learned_by_imitation_has_a_card(tmp_path: Path) -> None:
    config = SFTConfig(
        policy="tiny",
        out=tmp_path / "imitator",
        adapter=AdapterConfig(layers=1.0, rank=4, alpha=8, dtype="float32", device="cpu"),
        warm_start=WarmStartConfig(demonstrations=12, epochs=1),
    )
    sft(config)
    card = ModelCard.load(config.out / "README.md")
    assert card.data.library_name == "peft" and {"rlchat", "sft", "lora"} <= set(card.data.tags)
    assert card.data.eval_results is None
    text = (config.out / "README.md").read_text()
    assert "12 conversations of scripted demonstrators in `rlchat/Support-v0`" in text
    assert adapter_hash(config.out)[:12] in text and "It was not evaluated" in text
    losses = json.loads((config.out / "validation_losses.json").read_text())
    assert f"{losses[-1]:.4f}" in text and str(tmp_path) not in text
