"""The network of a reward model: a backbone encodes the text, several heads score the reply."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlchat_reward_models.tokenization import Rows

HIDDEN = 128  # of each head


def positions(backbone: nn.Module) -> int | None:
    """How many tokens a backbone has positions for; None where nothing bounds them.

    RoBERTa's table begins with rows that no token has, so the setting alone says too much.
    """
    config: Any = getattr(backbone, "config", None)
    told = getattr(config, "max_position_embeddings", None)
    limits = [told] if isinstance(told, int) and told > 0 else []
    for name, part in backbone.named_modules():
        if isinstance(part, nn.Embedding) and name.rpartition(".")[2] == "position_embeddings":
            unused = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - unused)
    return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class EnsembleScores:
    """Scores of N replies in logits, over all heads: mean (N,) and standard deviation (N,)."""

    mean: Tensor
    std: Tensor


class RewardModel(nn.Module):
    """Scores replies; the difference of two scores is the log-odds that the first is preferred.

    Bradley and Terry 1952. The heads differ in what they begin with and in how much each
    comparison counts for them, so that they disagree where comparisons do not decide
    (Lakshminarayanan et al. 2017; Coste et al. 2023 for reward models). A length expert beside
    them takes what mere length explains, and is left out when replies are scored (a product of
    experts: Shen et al. 2023, "Loose lips sink ships").
    """

    def __init__(self, backbone: PreTrainedModel, encoder: bool, heads: int = 4, seed: int = 0):
        """Put new heads on a backbone.

        Args:
            backbone: gives hidden states (N, T, D).
            encoder: its first state summarizes a text; a decoder's last one does.
            heads: how many there are in the ensemble.
            seed: of the heads' initial weights.
        """
        super().__init__()
        self.backbone = backbone
        self.config: Any = backbone.config
        self.config.num_labels = 1  # trl's trainer requires it
        self.encoder = encoder
        width = int(self.config.hidden_size)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Linear(2 * width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))
                for _ in range(heads)
            )
        self.length = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.length.weight)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        reply_mask: Tensor,
        **_: object,
    ) -> SimpleNamespace:
        """Score rows of tokens.

        Args:
            input_ids: (N, T).
            attention_mask: (N, T), 0 is padding.
            reply_mask: (N, T), True where a token is of the reply that is scored.

        Returns:
            ``logits`` (N, H), one column a head; ``length`` (N,), the length expert's score.
        """
        states = self.states(input_ids, attention_mask, reply_mask)
        logits = torch.cat([head(states) for head in self.heads], dim=-1)
        tokens = reply_mask.sum(1, keepdim=True).float()
        return SimpleNamespace(logits=logits, length=self.length(torch.log1p(tokens)).squeeze(-1))

    def states(self, input_ids: Tensor, attention_mask: Tensor, reply_mask: Tensor) -> Tensor:
        """Inputs of the heads, (N, 2 D): the mean over the reply, and the state of the whole."""
        given: dict[str, Tensor] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if getattr(self.config, "type_vocab_size", 0) == 2:
            given["token_type_ids"] = reply_mask.long()
        states = self.backbone(**given).last_hidden_state.float()
        mask = reply_mask.unsqueeze(-1).float()
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        rows = torch.arange(len(states), device=states.device)
        place = torch.zeros_like(rows) if self.encoder else attention_mask.sum(1) - 1
        return torch.cat([mean, states[rows, place]], dim=-1)

    @torch.inference_mode()
    def ensemble_scores(self, rows: Rows) -> EnsembleScores:
        """Mean and spread of the heads' scores, without the length expert."""
        logits = self(rows.ids, rows.attention, rows.reply).logits.float()
        spread = logits.std(1) if logits.shape[1] > 1 else torch.zeros(len(logits))
        return EnsembleScores(logits.mean(1).cpu(), spread.cpu())

    def add_model_tags(self, _: object) -> None:
        """Do nothing: trl's trainer tags what it trains, and nothing here is uploaded."""
