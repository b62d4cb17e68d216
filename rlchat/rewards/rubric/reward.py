"""A rubric's score of a whole conversation, as a part of the reward."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from rlchat.errors import Notice
from rlchat.rewards.rubric.config import JudgeConfig
from rlchat.rewards.rubric.judges import Answers, Asked, Judge, load_judge
from rlchat.rewards.rubric.questions import Rubric, read_rubric
from rlchat.rollout.trajectory import Episode
from rlchat_envs import Conversation

NEUTRAL = 0.5  # of a conversation that the judge could not be asked about, or said nothing readable


class RubricReward:
    """Scores a conversation once, at its end: 2s − 1 for a rubric's score s from 0 to 1.

    So a conversation earns from −1 to 1, however long it is. One that has no answer earns 0: what a
    server fails to say is neither good nor bad.
    """

    def __init__(self, rubric: Rubric, judge: Judge):
        """Score by what a judge answers."""
        self.rubric, self.judge = rubric, judge
        self._known: dict[Conversation, Answers] = {}

    @classmethod
    def load(cls, rubric: str, judge: str, config: JudgeConfig) -> RubricReward:
        """Read the rubric and load the judge.

        Raises:
            UserError: one of them is none.
        """
        return cls(read_rubric(rubric), load_judge(judge, config))

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score conversations: each at its last reply, 0 before it.

        Raises:
            RunError: the judge failed too often in a row.
        """
        asked = [Asked(c, self.rubric.questions) for c in dict.fromkeys(conversations)]
        found = self.judge.answer(asked)
        self._known = {a.conversation: said for a, said in zip(asked, found, strict=True)}
        if told := self.judge.shortened.notice():
            warnings.warn(told, Notice, stacklevel=2)
        return [self._turns(conversation) for conversation in conversations]

    def _turns(self, conversation: Conversation) -> list[float]:
        replies = sum(m.role == "assistant" for m in conversation)
        score = self.rubric.score(self._known[conversation])
        whole = 2 * (NEUTRAL if score is None else score) - 1
        return [0.0] * (replies - 1) + [whole] * (replies > 0)

    def answers(self, conversation: Conversation) -> dict[str, Answers]:
        """What was answered about a conversation when it was last scored, for its episode."""
        said, questions = self._known.get(conversation, {}), self.rubric.questions
        own = {q.text: said[q.name] for q in questions if q.name in said}
        return {self.judge.identity: own} if own else {}

    def metrics(self, everyone: Sequence[Episode]) -> dict[str, float]:
        """Of each question the mean of how good its answers are, and the share without an answer.

        Args:
            everyone: an iteration's episodes, of all ranks.
        """
        row: dict[str, float] = {}
        missing = 0
        for question in self.rubric.questions:
            given = [e.answers.get(self.judge.identity, {}).get(question.text) for e in everyone]
            known = [question.goodness(answer) for answer in given if answer is not None]
            missing += len(given) - len(known)
            row[f"rubric/{question.name}"] = sum(known) / len(known) if known else math.nan
        row["rubric/unanswered"] = missing / max(1, len(everyone) * len(self.rubric.questions))
        return row
