"""Base models with their tokenizers, opened from folders, the catalogue or the hub."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rlchat.errors import UserError

if TYPE_CHECKING:  # `rlchat models list` and `--help` should not wait for torch
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from rlchat.models.fetching.catalog import (
    _WEIGHTS,
    CATALOGUE,
    Say,
    cache_dir,
    first_line,
    manifest,
    no_progress_bars,
    resolve,
    sha256,
)

# Kinds of few bits that transformers turns into full precision as it loads, by itself.
_UNPACKED = {"fp8", "mxfp4"}


@dataclass(frozen=True)
class BaseInfo:
    """Facts about a base that a run records, so that another base is refused later.

    Attributes:
        spec: The user's word for it.
        source: Package and version, hub id and commit, or folder.
        weights_sha256: See `weights_hash`.
    """

    spec: str
    source: str
    weights_sha256: str


def load_base(
    spec: str,
    dtype: torch.dtype | None = None,
    say: Say = lambda line: None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, BaseInfo]:
    """Load a causal language model with its tokenizer, on the CPU and in evaluation mode.

    Only safetensors are read, and no code that comes with a model is run.

    Args:
        spec: See `resolve`.
        dtype: Of the weights; None keeps that of the files.
        say: As in `fetch`.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    no_progress_bars()
    found = resolve(spec, say)
    folder = found if isinstance(found, Path) else snapshot(found)
    if not (folder / "config.json").is_file():
        raise _unloadable(spec, f"no config.json in {folder}")
    plain = _unpacked_config(spec, folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            **({"config": plain} if plain else {}),
            dtype=dtype or "auto",
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of any model code
        raise _unloadable(spec, first_line(error)) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would make them up
        raise _unloadable(spec, f"files without {missing[0]} ({len(missing)} missing in all)")
    return model, tokenizer, BaseInfo(spec, _source(found, folder), weights_hash(folder))


Loaded: TypeAlias = "tuple[PreTrainedModel, PreTrainedTokenizerBase, BaseInfo]"
LoadBase: TypeAlias = "Callable[[str, torch.dtype | None, Say], Loaded]"


class SharedBases:
    """Loads bases, each once: whoever asks for one again gets a model with the same weights.

    Each has modules of its own, so that adapters on one of them are on no other.
    """

    def __init__(self) -> None:
        """Begin with none loaded."""
        self._loaded: dict[tuple[str, torch.dtype | None], Loaded] = {}

    def load(
        self, spec: str, dtype: torch.dtype | None = None, say: Say = lambda line: None
    ) -> Loaded:
        """Load a base, or give it again; see `load_base`."""
        if (spec, dtype) not in self._loaded:
            self._loaded[spec, dtype] = load_base(spec, dtype, say)
        model, tokenizer, info = self._loaded[spec, dtype]
        tensors: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
        return copy.deepcopy(model, tensors), tokenizer, info


def _unpacked_config(spec: str, folder: Path) -> PreTrainedConfig | None:
    """The configuration by which weights of few bits are loaded in full precision.

    Returns:
        None for weights of 16 or 32 bits.

    Raises:
        UserError: weights of few bits that transformers does not turn into others by itself.
    """
    from transformers import AutoConfig

    try:
        packing = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
        method = str(packing.get("quant_method") or "bitsandbytes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if method in _UNPACKED:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config.quantization_config = {**packing, "dequantize": True}
        return config
    bits = next((n for n in (4, 8) if packing.get(f"load_in_{n}bit")), packing.get("bits"))
    full = re.sub(r"(?i)-(?:unsloth-)?(?:bnb-)?[48]bit$", "", spec)
    hint = f", such as {full}" if full != spec else ""
    raise UserError(
        f"expected weights of 16 or 32 bits, as adapters are trained and merged exactly over those "
        f"alone; {spec} has {f'{bits}-bit ' if bits else ''}ones ({method}); name the model that "
        f"they were made from{hint}, for an adapter as base_model_name_or_path in its "
        "adapter_config.json"
    )


def weights_hash(folder: Path) -> str:
    """SHA-256 over the weights of a model folder, hexadecimal; for one file that file's own.

    The files are those that transformers would load, in the order of their names: a hub folder
    may hold the same weights twice. A folder of the cache carries the number in its manifest.
    """
    if folder.parent == cache_dir() and (kept := manifest(folder)):
        return str(kept["weights_sha256"])
    index = folder / f"{_WEIGHTS}.index.json"
    if (folder / _WEIGHTS).is_file():
        files = [folder / _WEIGHTS]
    elif index.is_file():
        parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = [folder / name for name in sorted(set(parts))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"expected *.safetensors in {folder}, got none: use save_pretrained")
    return sha256(*files)


def snapshot(hub_id: str) -> Path:
    """The folder of a hub model: its configuration, tokenizer and safetensors, nothing else."""
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.jinja", "*.txt", "tokenizer.model", "model*.safetensors"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected a folder or a hub model called {hub_id!r}, got neither "
            f"({first_line(error)}): check the name and the network, or use one of "
            + ", ".join(CATALOGUE)
        ) from error


def _source(found: Path | str, folder: Path) -> str:
    if isinstance(found, str):
        return f"{found}@{folder.name}"  # the hub's cache calls the folder by the commit
    ours = folder.parent == cache_dir() and manifest(folder)
    return str(ours["source"]) if ours else str(folder.resolve())


def _unloadable(spec: str, got: str) -> UserError:
    return UserError(
        f"expected {spec!r} to be a causal language model with config.json, safetensors weights "
        f"and a tokenizer, got: {got}; save one with save_pretrained or use {', '.join(CATALOGUE)}"
    )
