"""The verb `feedback ask`: a person compares replies, the most informative first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.feedback.style_profile import Known, known
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.branching import Branch, BranchingRollouts
from rlchat.rollout.config import BranchConfig
from rlchat.rollout.environment import EnvConfig
from rlchat_reward_models.preferences import messages_to_json
from rlchat_reward_models.style_features import Array, style_features

WORLDS = ("Support", "SupportHard", "Tutoring", "Medical", "Finance")
SPEAKER = "demonstrator"  # is kind at times, and curt at others


@dataclass(frozen=True)
class Question:
    """Two replies of one moment that differ in style."""

    env: str
    first: Branch
    second: Branch
    difference: Array  # (P,) of their style features


def questions(
    split: Literal["train", "test"], seed: int, config: BranchConfig
) -> Iterator[list[Question]]:
    """Questions that can be asked, a list for each moment of dialogues of scripted agents."""
    for name in WORLDS:
        rollouts = BranchingRollouts(EnvConfig(f"rlchat/{name}-v0"), split, seed)
        for siblings in rollouts.branches(ScenarioAgent(SPEAKER), config):
            features = [style_features(branch.context, branch.text) for branch in siblings]
            yield [
                Question(rollouts.env.env, siblings[i], siblings[j], features[i] - features[j])
                for i, j in combinations(range(len(siblings)), 2)
                if (features[i] != features[j]).any()
            ]


def keep(person: str, question: Question, value: Literal[1, 0, -1]) -> None:
    """Keep an answer as /ab is kept: both replies, and how they compare."""
    first, second = question.first, question.second
    turn, context = len(first.snapshot.said), messages_to_json(first.context)
    with Store.open(store_path()) as store, store.writing():
        session = store.begin_session(person, SPEAKER, SPEAKER, question.env, 1.0)
        number = store.add_reply(session, StoredReply(turn, context, first.text))
        store.rate(number, "pair", value, second.text)
        store.add_reply(session, StoredReply(turn, context, second.text))


def known_so_far(person: str) -> Known:
    """Read what is known of a person now; the file is not open while they think."""
    with Store.open(store_path()) as store:
        return known(store, person)
