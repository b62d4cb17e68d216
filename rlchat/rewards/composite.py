"""The reward of each turn in training: the environment's parts and learned ones, weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.rewards.config import PLAIN, RewardConfig
from rlchat.rewards.learned import LearnedReward, ReplyScorer
from rlchat.rewards.loading import load_scorer
from rlchat.rewards.rubric.config import RUBRIC
from rlchat.rewards.rubric.reward import RubricReward
from rlchat.rewards.style import StyleReward
from rlchat.rollout.trajectory import Episode
from rlchat_reward_models import RULES
from rlchat_reward_models.stated_style import STATED_PARTS
from rlchat_reward_models.text_scorers import Sentiment, Toxicity

GROUPS = ("world", "rules", "stated", "learned", "style", RUBRIC, "sentiment", "toxicity")
Played = TypeVar("Played", bound=Episode)
SOMETIMES = ("cut_off",)  # parts that only some turns have, in any environment


class CompositeReward:
    """Weighs the parts of every turn, and holds costs under their limit."""

    def __init__(self, config: RewardConfig):
        """Load the scorers that count.

        Raises:
            UserError: a reward model that is none, or a package that is not installed.
        """
        self.config, self.weights = config, config.weighed
        self.multiplier = 0.0  # price of a unit of cost
        self._seen: set[str] = set()  # names of parts that episodes of any rank had
        self.learned: LearnedReward | None = None
        if config.model is not None:
            scorer = load_scorer(config.model, config.dtype)
            chosen = scorer.granularity if config.granularity == "auto" else config.granularity
            self.learned = LearnedReward(scorer, config.shape, chosen)
        self.personal: StyleReward | None = None
        if self.weights.get("style"):
            self.personal = StyleReward(config.person)
        self.rubric: RubricReward | None = None
        if config.judged:
            self.rubric = RubricReward.load(config.rubric, config.judge, config.judging)
        self.scorers: dict[str, ReplyScorer] = {}
        if self.learned is not None and config.learned:
            self.scorers["learned"] = self.learned
        if self.personal is not None:
            self.scorers["style"] = self.personal
        if self.rubric is not None:
            self.scorers[RUBRIC] = self.rubric
        kinds: dict[str, Callable[[], ReplyScorer]] = {"sentiment": Sentiment, "toxicity": Toxicity}
        for name, kind in kinds.items():
            if self.weights.get(name):
                try:
                    self.scorers[name] = kind()
                except ValueError as error:
                    raise UserError(str(error)) from error

    @property
    def plain(self) -> bool:
        """Whether the environment's own parts are the score."""
        return not self.scorers and self.weights == PLAIN and self.config.cost_limit is None

    @property
    def compared(self) -> bool:
        """Whether comparisons of replies count, and nothing that is said of a whole episode."""
        counting = {name for name, weight in self.weights.items() if weight}
        own = {*GROUPS, *RULES, *STATED_PARTS}
        whole = bool(counting - own or counting & {"world", RUBRIC})
        if "learned" in counting and self.learned is not None:
            whole = whole or self.learned.granularity == "conversation"
        return bool(counting & {"learned", "style"}) and not whole

    def score(self, trajectories: Sequence[Played], ranks: Distributed) -> list[Played]:
        """Give every turn its parts.

        The environment's own score stays beside them, see `Episode.env_score`.

        Args:
            trajectories: this rank's, as the environment scored them.
            ranks: the others, for a scale that all share.
        """
        if self.plain:
            return list(trajectories)
        self._check(trajectories, ranks)
        said = [t.conversation for t in trajectories]
        for own in (self.learned, self.personal):
            if own is not None and not own.settled:
                own.settle(said, ranks)
        found = {name: scorer.score(said) for name, scorer in self.scorers.items()}
        return [
            self._scored(t, {name: scores[i] for name, scores in found.items()})
            for i, t in enumerate(trajectories)
        ]

    def _scored(self, trajectory: Played, found: Mapping[str, Sequence[float]]) -> Played:
        """One episode's parts: its own, weighed, and what scorers found."""
        parts: list[Mapping[str, float]] = []
        for turn, own in enumerate(trajectory.parts):
            weighed = {name: self._weight(name) * value for name, value in own.items()}
            kept = {name: value for name, value in weighed.items() if self._weight(name)}
            kept |= {name: self.weights[name] * scores[turn] for name, scores in found.items()}
            if self.config.cost_limit is not None:
                kept["cost"] = -self.multiplier * sum(trajectory.costs[turn].values())
            parts.append(kept)
        scored = copy(trajectory)  # replace() would begin it anew
        scored.parts, scored.env_score = parts, trajectory.score
        if self.rubric is not None:
            scored.answers = self.rubric.answers(trajectory.conversation)
        return scored

    def _check(self, trajectories: Sequence[Episode], ranks: Distributed) -> None:
        """Refuse weights of parts that no episode of any rank has: all ranks, or none."""
        unknown = self.weights.keys() - self._seen - {*GROUPS, *SOMETIMES, *STATED_PARTS}
        if not unknown:
            return
        own = {name for t in trajectories for parts in t.parts for name in parts}
        self._seen |= set(ranks.gather(sorted(own)))
        if self._seen and (left := sorted(unknown - self._seen)):
            names = (*GROUPS, *sorted({*self._seen, *SOMETIMES}))
            raise UserError(f"expected weights of {', '.join(names)}; got {left[0]}")

    def _weight(self, part: str) -> float:
        """The weight of a part of the environment's: that of its own name, or of its group.

        Parts of a stated style count unless they are weighed themselves: it is stated to be
        followed, whatever else is paid for.
        """
        if part in STATED_PARTS:
            return self.weights.get(part, self.weights.get("stated", 1.0))
        group = "rules" if part in RULES else "world"
        return self.weights.get(part, self.weights.get(group, 0.0))

    def price(self, cost: float) -> None:
        """Move the price of a unit of cost, given an episode's mean cost.

        λ ← max(0, λ + rate · (cost − limit)): dual ascent on the constraint (Altman 1999;
        Tessler et al. 2018).
        """
        if self.config.cost_limit is not None:
            excess = cost - self.config.cost_limit
            self.multiplier = max(0.0, self.multiplier + self.config.cost_rate * excess)

    def to_json(self) -> dict[str, Any]:
        """The state that `take_up` reads: the multiplier, and the scales of scorers."""
        kept: dict[str, Any] = {"multiplier": self.multiplier}
        if self.learned is not None:
            scale = self.learned.scorer.scale
            kept |= {"mean": scale.mean, "std": scale.std, "settled": self.learned.settled}
        if self.personal is not None:
            kept["style"] = self.personal.to_json()
        return kept

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self.multiplier = float(kept["multiplier"])
        if self.learned is not None:
            scorer = self.learned.scorer
            scale = replace(scorer.scale, mean=float(kept["mean"]), std=float(kept["std"]))
            scorer.rescale(scale)
            self.learned.settled = bool(kept["settled"])
        if self.personal is not None:
            self.personal.take_up(kept["style"])
