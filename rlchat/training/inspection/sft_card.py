"""The model card of an adapter that learned by imitation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rlchat.files import write_text
from rlchat.models.adapter_io import adapter_folder, adapter_hash
from rlchat.models.loading import BaseInfo
from rlchat.training.config import SFTConfig
from rlchat.training.inspection.model_card import CARD, Base, base_of, common_front, heading, use


def leave_sft_card(
    config: SFTConfig, info: BaseInfo, conversations: int, losses: Sequence[float]
) -> None:
    """Write the model card of what `rlchat sft` trained beside its adapter.

    Args:
        config: of the training.
        info: the base.
        conversations: that were imitated, those held out included.
        losses: on those held out, after each epoch.
    """
    base, name = base_of(asdict(info)), config.out.resolve().name
    sections = [
        heading(name, common_front(base, "sft", config.adapter.method)),
        f"A dialogue agent: an adapter ({config.adapter.method}) over {base.shown}, trained by "
        "imitation (rlchat sft). It loads with plain peft.",
        "## Results\n\nIt was not evaluated; `rlchat eval FOLDER` does that.",
        f"## Data\n\n- {_data(config, conversations)}",
        _settings(config, base, losses),
        "## Limits\n\n- It does what the conversations do, their mistakes included; nothing was "
        "trained on its own replies.\n"
        f"- One training with one seed ({config.seed}).",
        use(base, "FOLDER"),
    ]
    write_text(config.out / CARD, "\n\n".join(sections) + "\n")


def _data(config: SFTConfig, count: int) -> str:
    if config.data is not None:
        return f"{count} conversations of a file, of which this card knows nothing else."
    envs = ", ".join(f"`{env.env}`" for env in config.mixture.envs)
    return f"{count} conversations of scripted demonstrators in {envs}, with simulated users."


def _settings(config: SFTConfig, base: Base, losses: Sequence[float]) -> str:
    rows = {
        "base model": f"{base.shown}, weights {base.sha256[:12]}",
        "adapter": f"{config.adapter.method}, version {adapter_hash(config.out)[:12]}",
        "seed": config.seed,
        "learning rate": config.warm_start.learning_rate,
        "epochs, at most": config.warm_start.epochs,
        "validation loss, nats a token": ", ".join(f"{loss:.4f}" for loss in losses),
    }
    if adapter_folder(config.policy) is not None:
        rows["start"] = "an adapter that was trained before; this card does not know on what"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## Settings\n\n| setting | value |\n|---|---|\n{table}"
