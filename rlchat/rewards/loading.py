"""Opening reward models: where they lie, and what they compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlchat.errors import UserError
from rlchat.models.attention import trunk_and_head
from rlchat.models.device import choose_device, choose_dtype
from rlchat.models.fetching import catalog
from rlchat.models.fetching.catalog import Say
from rlchat.models.loading import load_base, snapshot
from rlchat.models.sentence_encoder import MINILM, minilm_folder
from rlchat.settings import DTypeName
from rlchat_reward_models.scorer import LearnedScorer


def load_scorer(
    folder: str | Path, dtype: DTypeName = "auto", device: str = "auto"
) -> LearnedScorer:
    """Open a reward model.

    Args:
        folder: where ``rlchat reward train`` left it.
        dtype: precision of its products; auto measures what is faster.
        device: where it computes.

    Raises:
        UserError: the folder holds none.
    """
    place = choose_device(device)
    try:
        scorer = LearnedScorer.load(Path(folder), open_base, str(place))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    scorer.dtype = choose_dtype(dtype, place)
    return scorer


def open_backbone(
    name: str, seed: int = 0, say: Say = lambda line: None
) -> tuple[Any, PreTrainedTokenizerBase, bool]:
    """Open the backbone of a new reward model.

    Args:
        name: minilm-l6, a Hugging Face id or a folder, or a name of `rlchat models list`.
        seed: of an adapter's weights.
        say: told what takes long.

    Returns:
        The backbone, its tokenizer, and whether it is an adapter over a language model.

    Raises:
        UserError: no such model.
    """
    if name == MINILM.name:
        return *_encoder(minilm_folder(say)), False
    found = catalog.resolve(name, say)
    folder = found if isinstance(found, Path) else snapshot(found)
    if _is_encoder(folder):
        return *_encoder(folder), False
    backbone, tokenizer = open_base(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")
        return get_peft_model(backbone, lora), tokenizer, True


def open_base(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model without its head."""
    model, tokenizer, _ = load_base(name)
    backbone, _ = trunk_and_head(model)
    assert isinstance(backbone, PreTrainedModel)
    return backbone, tokenizer


def _is_encoder(folder: Path) -> bool:
    """Whether a model's tokenizer frames a text, as those of encoders do."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected a model with a tokenizer; got {folder}: {str(error).partition(chr(10))[0]}; "
            "choose another"
        ) from error
    return tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None


def _encoder(folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    catalog.no_progress_bars()
    try:
        backbone = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
        return backbone, AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"expected {folder} to be an encoder with config.json, a tokenizer and safetensors "
            f"weights; got: {str(error).strip().partition(chr(10))[0]}; choose another"
        ) from error
