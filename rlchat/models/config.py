"""Settings of what is trained of a model, and of the precision it runs in."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.errors import UserError
from rlchat.settings import DTypeName, expect

MERGED, PROMPTED = ("lora", "dora", "rslora", "ia3"), ("prefix", "prompt")
METHODS = (*MERGED, *PROMPTED)


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of the adapter: what of the model is trained, and in which precision it runs."""

    method: str = "lora"
    """PEFT method of a fresh adapter: lora, dora, rslora or ia3; or prefix or prompt, which are
    tuned instead of weights."""
    rank: int = 16
    """Rank of the matrices that lora, dora and rslora add to each layer."""
    alpha: int = 32
    """Factor of what lora, dora and rslora add, before it is divided by the rank."""
    layers: float = 0.5
    """Share of the model's layers that get an adapter, counted from the top; the layers below are
    computed once for all passes over the same texts."""
    tokens: int = 16
    """Number of virtual tokens that prefix and prompt tuning learn."""
    dtype: DTypeName = "auto"
    """Precision of the model's weights; auto measures which is faster on this machine."""
    device: str = "auto"
    """Torch device that the model runs on, such as cpu or cuda:0; auto takes a GPU if there is
    one."""

    max_message_tokens: int | None = None
    """Most tokens of one message that the model reads, such as a system message or what a tool
    found; a longer one is cut there, which is told. Left out (None), as the adapter was trained;
    a fresh one reads 512."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, in one sentence."""
        if self.method not in METHODS:
            raise UserError(
                f"expected a PEFT method out of {', '.join(METHODS)} (those are tested); got "
                f"{self.method!r}; choose one of them"
            )
        for name in ("rank", "alpha", "tokens"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        most = self.max_message_tokens
        expect(self, "max_message_tokens", most is None or most >= 1, "of at least 1")
        if not 0 < self.layers <= 1:
            raise UserError(f"expected layers above 0 and at most 1; got {self.layers}")
