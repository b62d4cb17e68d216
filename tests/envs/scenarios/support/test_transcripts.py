"""Support-v0 says what it has always said: results were published with these transcripts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from rlchat_envs import as_text
from rlchat_envs.scenarios.support.agents import MediocreDesk

# Version 0, seeds 0 to 49; the same with NumPy 1.26 and 2.4, as only whole numbers are drawn
# and fractions compared.
DIGESTS = {
    "train": "47abdab82089a51c",
    "dev": "a4ec730aca0d9fc5",
    "test": "fdd5041b9f5441d8",
}


@pytest.mark.parametrize("split", DIGESTS)
def test_transcripts_stay_bit_for_bit(split: str, play: Callable[..., Any]) -> None:
    digest = hashlib.sha256()
    for seed in range(50):
        episode = play(MediocreDesk(seed), split, seed)
        digest.update(as_text(episode.infos[-1]["conversation"]).encode())
    assert digest.hexdigest()[:16] == DIGESTS[split]
