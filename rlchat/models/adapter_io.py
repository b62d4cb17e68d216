"""Adapters on disk: ordinary PEFT folders that remember which base they belong to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlchat.errors import UserError
from rlchat.files import at_home, atomic_folder, recover_folder, write_json
from rlchat.models.adapters import check_layers, check_supported
from rlchat.models.chat_template import ChatTemplate, stop_ids_of
from rlchat.models.fetching.catalog import CATALOGUE, first_line, is_hub_id
from rlchat.models.loading import BaseInfo
from rlchat.models.starters import STARTERS
from rlchat.models.templates.cuts import MAX_MESSAGE_TOKENS
from rlchat.models.templates.thoughts import OFF, check_thinking

_BASE = "rlchat_base.json"


@dataclass(frozen=True)
class Reading:
    """How an adapter reads conversations.

    Attributes:
        max_message_tokens: Most tokens of a message that it reads.
        tokenizer: The one that it came with, in the place of its base's.
        stop_ids: Ids that end a turn, by the settings of its base.
        thinking: Whether it thinks; see `ChatTemplate.thinking`.
    """

    max_message_tokens: int = MAX_MESSAGE_TOKENS
    tokenizer: PreTrainedTokenizerBase | None = None
    stop_ids: tuple[int, ...] = ()
    thinking: str = OFF

    def template(self, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
        """The chat template of its tokenizer, else of its base's."""
        own = self.tokenizer or tokenizer
        return ChatTemplate(own, self.max_message_tokens, self.stop_ids, self.thinking)


def write_adapter(
    folder: Path,
    model: PeftModel,
    name: str,
    base: BaseInfo,
    weights: dict[str, Tensor] | None = None,
    reading: Reading | None = None,
) -> None:
    """Write one adapter so that plain ``PeftModel.from_pretrained(base, folder)`` loads it.

    peft puts an adapter that is not called ``default`` into a subfolder; this does not.

    Args:
        folder: is replaced as a whole.
        model: has the adapter.
        name: of the adapter.
        base: what it belongs to; recorded, and checked when it is loaded.
        weights: by the model's parameter names, written instead of the model's own.
        reading: how it has read conversations, and will again.
    """
    state = model.state_dict()
    if weights is not None:
        state = {key: weights.get(key, value) for key, value in state.items()}
    own = get_peft_model_state_dict(model, state_dict=state, adapter_name=name)
    if weights is not None and model.peft_config[name].is_prompt_learning:
        own = dict(zip(own, weights.values(), strict=True))  # peft reads the model's own
    with atomic_folder(folder) as new:
        save_file(
            {key: value.detach().cpu().contiguous().clone() for key, value in own.items()},
            new / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
        config = model.peft_config[name]
        inference_mode, config.inference_mode = config.inference_mode, True
        config.save_pretrained(str(new))
        config.inference_mode = inference_mode
        record: dict[str, Any] = asdict(base)
        if reading is not None and reading.max_message_tokens != MAX_MESSAGE_TOKENS:
            record["max_message_tokens"] = reading.max_message_tokens
        if reading is not None and reading.thinking != OFF:
            record["thinking"] = reading.thinking
        if reading is not None and reading.tokenizer is not None:
            reading.tokenizer.save_pretrained(new)
        write_json(new / _BASE, record)


def read_config(folder: Path) -> PeftConfig:
    """Read an adapter's PEFT configuration.

    Raises:
        UserError: the folder holds no readable adapter.
    """
    recover_folder(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        if (folder / "adapter_model.bin").is_file():
            raise UserError(
                f"expected adapter_model.safetensors in {folder}; found adapter_model.bin, which "
                "can run code when it is read; save the adapter again with safe_serialization"
            )
        raise UserError(
            f"expected an adapter in {folder}; found none; name a run folder that has finished "
            "an iteration"
        )
    try:
        # peft would look for a missing file on the hub, and retry.
        (folder / "adapter_config.json").read_bytes()
        config: PeftConfig = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(
            f"expected a PEFT adapter in {folder}; its adapter_config.json cannot be read; "
            "restore the folder or train again"
        ) from error
    check_supported(config, folder)
    own: Any = config
    if getattr(own, "lora_dropout", 0.0):
        own.lora_dropout = 0.0  # its maker's; here what is sampled is what is trained
    return config


def adapter_hash(folder: Path) -> str:
    """SHA-256 of an adapter's weights, hexadecimal."""
    recover_folder(folder)
    with (folder / "adapter_model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def adapter_folder(name: str | Path) -> Path | None:
    """The adapter in a run folder, or the folder itself if it is one, or a starter; None otherwise.

    Raises:
        UserError: a run folder without an adapter.
    """
    if str(name) in STARTERS:
        return STARTERS[str(name)].folder
    folder = Path(name)
    if (folder / "adapter_config.json").is_file():
        return folder
    if (folder / "adapter").is_dir():
        return folder / "adapter"
    if (folder / "config.json").is_file() and (folder / "versions.json").is_file():
        raise UserError(
            f"expected a run that has finished an iteration; {folder} holds no adapter yet; go on "
            "with rlchat train --resume"
        )
    return None


def load_adapter(model: PreTrainedModel, folder: Path, name: str) -> PeftModel:
    """Put a saved adapter on a base model, to be trained on.

    Raises:
        UserError: the weights are broken, or are not those that the configuration describes.
    """
    config = read_config(folder)
    try:
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            saved = set(file.keys())
        loaded = PeftModel.from_pretrained(
            model,
            str(folder),
            adapter_name=name,
            is_trainable=not config.is_prompt_learning,  # which peft refuses; we see to it
            autocast_adapter_dtype=False,
            config=config,
        )
        whole = saved == set(get_peft_model_state_dict(loaded, adapter_name=name))
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{_broken(folder)} ({str(error).strip().splitlines()[-1]})") from error
    if not whole:
        raise UserError(_broken(folder))
    check_layers(loaded, folder)
    return loaded


def read_weights(model: PeftModel, folder: Path, name: str) -> None:
    """Give an adapter of a model the weights of a saved one.

    Raises:
        UserError: the saved one is of another shape.
    """
    try:
        saved = load_file(folder / "adapter_model.safetensors")
        own = get_peft_model_state_dict(model, adapter_name=name)
        fits = {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in own.items()}
    except (SafetensorError, OSError):
        fits = False
    if not fits:
        raise UserError(
            f"expected an adapter of the same shape in {folder}; it is of another; name a version "
            "of the same run"
        )
    set_peft_model_state_dict(model, saved, adapter_name=name)


def _broken(folder: Path) -> str:
    return (
        f"expected whole weights in {folder}, as its adapter_config.json describes them; they are "
        "not; restore the folder or train again"
    )


def base_spec(folder: Path) -> str:
    """The base model an adapter was trained on, as its maker named it.

    Raises:
        UserError: the record of it is missing or broken.
    """
    recorded = _read_base(folder)
    return _named_base(folder) if recorded is None else recorded["spec"]


def _named_base(folder: Path) -> str:
    """The base of an adapter made elsewhere: a name for the hub, or a folder, also beside it.

    Raises:
        UserError: it names none, or a folder that is not here.
    """
    named = read_config(folder).base_model_name_or_path or ""
    beside = folder / named
    if named and not at_home(named).is_dir() and beside.is_dir():
        return str(beside)
    if not (named in CATALOGUE or (named and at_home(named).is_dir()) or is_hub_id(named)):
        raise UserError(
            f"expected the base model of the adapter in {folder} as base_model_name_or_path of its "
            f"adapter_config.json; got {named or None!r}, which is no model here; write the base's "
            "folder or its name on the hub there"
        )
    return named


def reading_of(folder: Path | None, base: PreTrainedModel, given: int | None = None) -> Reading:
    """How an adapter reads conversations: as in its training.

    trl and others leave the tokenizer beside an adapter, with the chat template of its training.

    Args:
        folder: of the adapter; a fresh one has none.
        base: its model.
        given: most tokens of a message, where somebody says so.

    Raises:
        UserError: it has a tokenizer that cannot be used with this base.
    """
    try:
        recorded = json.loads((folder / _BASE).read_text("utf-8")) if folder else {}
        kept = max(1, int(recorded.get("max_message_tokens", MAX_MESSAGE_TOKENS)))
        thinking = str(recorded.get("thinking", OFF)) or OFF
        check_thinking(thinking)
    except (OSError, ValueError, TypeError, AttributeError, UserError):
        kept, thinking = MAX_MESSAGE_TOKENS, OFF
    own = None
    if folder is not None and (folder / "tokenizer_config.json").is_file():
        own = _own_tokenizer(folder, base)
    return Reading(given or kept, own, stop_ids_of(base), thinking)


def _own_tokenizer(folder: Path, base: PreTrainedModel) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        own: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False
        )
    except Exception as error:  # of any tokenizer code
        raise UserError(
            f"expected a tokenizer in {folder}, as its tokenizer_config.json promises; it cannot "
            f"be loaded ({first_line(error)}); restore its files, or remove all of them to use the "
            "base's"
        ) from error
    embeddings: Any = base.get_input_embeddings()
    room = int(embeddings.weight.shape[0])
    if len(own) > room:
        raise UserError(
            f"expected an adapter of the base's own words in {folder}; its tokenizer has "
            f"{len(own):,}, and the base {room:,}; merge it into its base and give the merged "
            "folder as --policy"
        )
    return own


def check_base(folder: Path, base: BaseInfo) -> None:
    """Refuse an adapter that was trained over other weights.

    Raises:
        UserError: the weights' hashes differ.
    """
    recorded = _read_base(folder)
    if recorded is None:  # made elsewhere: what does not fit is seen by its shapes
        return
    if recorded["weights_sha256"] != base.weights_sha256:
        raise UserError(
            f"expected the adapter in {folder} on its own base, {recorded['source']}; got "
            f"{base.source}, whose weights differ; load it over "
            f"{recorded['spec']}"
        )


def _read_base(folder: Path) -> dict[str, str] | None:
    """The record of the base that rlchat leaves; None beside an adapter made elsewhere."""
    recover_folder(folder)
    if not (folder / _BASE).exists() and (folder / "adapter_config.json").is_file():
        return None
    try:
        recorded = json.loads((folder / _BASE).read_text("utf-8"))
        return {key: str(recorded[key]) for key in ("spec", "source", "weights_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"expected {_BASE} in {folder}, which says what the adapter belongs to; it is "
            "missing or broken; restore the folder or train again"
        ) from error
