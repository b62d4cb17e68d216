"""Opening reward models: where they lie, and what they compute with."""

from __future__ import annotations

from pathlib import Path

from rlchat.errors import UserError
from rlchat.models.device import DTypeName, choose_device, choose_dtype
from rlchat.rewards.backbone import open_base
from rlchat_reward_models.learned import LearnedScorer


def load_scorer(folder: Path, dtype: DTypeName = "auto", device: str = "auto") -> LearnedScorer:
    """Open a reward model.

    Raises:
        UserError: the folder holds none.
    """
    place = choose_device(device)
    try:
        scorer = LearnedScorer.load(folder, open_base, str(place))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error
    scorer.dtype = choose_dtype(dtype, place)
    return scorer
