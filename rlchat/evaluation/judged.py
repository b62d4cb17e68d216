"""What a judge says of an evaluation's episodes, and how far it agrees with the world's verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.rewards.rubric.config import RUBRIC
from rlchat.rewards.rubric.judges import Answers, Asked, Judge
from rlchat.rewards.rubric.questions import Question, Rubric
from rlchat.rollout.trajectory import Episode
from rlchat.statistics import Interval, by_cluster, mean_interval
from rlchat.statistics.agreement import Agreement, agreement
from rlchat.statistics.intervals import interval_of_rate, reach

Read = Callable[[Episode], float | None]
"""A number that an episode may have."""


def judge_episodes(
    episodes: Sequence[Episode],
    rubric: Rubric,
    judge: Judge,
    on_judged: Callable[[Episode], None] = lambda episode: None,
) -> None:
    """Ask what was not answered yet, and keep the answers with the episodes.

    Args:
        episodes: get the answers.
        rubric: the questions.
        judge: is asked.
        on_judged: told of each episode as its answers are there.

    Raises:
        RunError: the judge failed too often in a row; answers that were there until then are kept.
    """
    unanswered: list[tuple[Episode, Asked]] = []
    for episode in episodes:
        known = episode.answers.get(judge.identity, {})
        if left := [q for q in rubric.questions if q.text not in known]:
            unanswered.append((episode, Asked(episode.conversation, left)))
        else:
            on_judged(episode)
    found = judge.answer([asked for _, asked in unanswered])
    for (episode, asked), said in zip(unanswered, found, strict=True):
        _keep(episode, asked.questions, said, judge.identity)
        on_judged(episode)


def _keep(episode: Episode, questions: Iterable[Question], said: Answers, identity: str) -> None:
    """Add a judge's answers to those that an episode has."""
    new = {q.text: said[q.name] for q in questions if q.name in said}
    own = {**episode.answers.get(identity, {}), **new}
    episode.answers = {**episode.answers, **({identity: own} if own else {})}


@dataclass(frozen=True)
class JudgedResult:
    """An evaluation's result as a judge sees it."""

    result: EvaluationResult
    rubric: Rubric
    identity: str

    def answers(self, episode: Episode) -> dict[str, float | None]:
        """The judge's answers about an episode, by the question's name."""
        known = episode.answers.get(self.identity, {})
        return {q.name: known[q.text] for q in self.rubric.questions if q.text in known}

    def said(self, question: Question) -> Read:
        """What a judge said of an episode: 1 for yes, 0 for no, or the number of a scale."""

        def read(episode: Episode) -> float | None:
            answer = self.answers(episode).get(question.name)
            return None if answer is None else question.said(answer)

        return read

    def score(self, episode: Episode) -> float | None:
        """The rubric's score of an episode, from 0 to 1."""
        return self.rubric.score(self.answers(episode))

    @property
    def metrics(self) -> dict[str, Interval]:
        """The share of yes, or the mean number, of each question, and the rubric's mean score.

        Each has its 95% interval; episodes with the same user count as one observation. A question
        that was nowhere answered is missing.
        """
        found: dict[str, Interval] = {}
        for question in self.rubric.questions:
            if values := self._clustered(self.said(question)):
                found[question.name] = (
                    mean_interval(values, 1.0, float(question.top))
                    if question.top
                    else interval_of_rate(values)
                )
        if scores := self._clustered(self.score):
            found[RUBRIC] = mean_interval(scores, 0.0, 1.0)
        return found

    def _clustered(self, read: Read) -> list[float]:
        known = [(v, e.seed) for e in self.result.episodes if (v := read(e)) is not None]
        return by_cluster([v for v, _ in known], [seed for _, seed in known])

    def minus(self, other: JudgedResult) -> dict[str, Interval]:
        """Paired differences of all that `metrics` has, on episodes that both have answers for."""
        reads: list[tuple[str, Read, Read, float]] = [
            (q.name, self.said(q), other.said(q), max(1.0, q.top - 1.0))
            for q in self.rubric.questions
        ]
        reads.append((RUBRIC, self.score, other.score, 1.0))
        pairs = list(zip(self.result.episodes, other.result.episodes, strict=True))
        found: dict[str, Interval] = {}
        for name, own, others, least in reads:
            both = [
                (a - b, one.seed)
                for one, two in pairs
                if (a := own(one)) is not None and (b := others(two)) is not None
            ]
            if both:
                values = by_cluster([d for d, _ in both], [seed for _, seed in both])
                found[name] = mean_interval(values, **reach(values, least))
        return found

    @property
    def missing(self) -> dict[str, tuple[int, int]]:
        """Answers that are none, by question: how many could not be read, and were not given."""
        found: dict[str, tuple[int, int]] = {}
        for question in self.rubric.questions:
            given = [self.answers(e) for e in self.result.episodes]
            unreadable = sum(question.name in g and g[question.name] is None for g in given)
            absent = sum(question.name not in g for g in given)
            if unreadable or absent:
                found[question.name] = (unreadable, absent)
        return found

    def to_json(self) -> dict[str, Any]:
        """What was measured, for a file."""
        return {
            "agent": self.result.agent,
            "metrics": {name: asdict(interval) for name, interval in self.metrics.items()},
            "unreadable": {name: counts[0] for name, counts in self.missing.items()},
            "not_asked": {name: counts[1] for name, counts in self.missing.items()},
        }


def agreements(judged: Sequence[JudgedResult]) -> dict[str, Agreement | None]:
    """How far a judge agrees with the world's verdicts, over the episodes of all agents together.

    Each side is whether the episode is good: by the answer, and by the verdict.

    Args:
        judged: results of the same rubric and judge in one environment.

    Returns:
        Of each question that has a verdict its agreement; None where the world tells no such thing.
    """
    found: dict[str, Agreement | None] = {}
    episodes = [e for one in judged for e in one.result.episodes]
    for question in judged[0].rubric.questions:
        if question.verdict is None:
            continue
        verdicts = question.verdict.of(episodes)
        answers = [judged[0].answers(episode).get(question.name) for episode in episodes]
        both = [
            (question.is_good(answer), verdict, episode.seed)
            for answer, verdict, episode in zip(answers, verdicts, episodes, strict=True)
            if answer is not None and verdict is not None
        ]
        told = any(verdict is not None for verdict in verdicts)
        rated, truth = [rated for rated, _, _ in both], [truth for _, truth, _ in both]
        seeds = [seed for _, _, seed in both]
        found[question.name] = agreement(rated, truth, seeds) if told else None
    return found


def agreement_to_json(found: Mapping[str, Agreement | None]) -> dict[str, Any]:
    """Agreements for a file."""
    return {name: None if one is None else asdict(one) for name, one in found.items()}


def rubric_to_json(judged: Sequence[JudgedResult]) -> dict[str, Any]:
    """The questions, what was answered in one environment, and how far that is to be believed."""
    rubric, identity = judged[0].rubric, judged[0].identity
    questions = [
        {
            **asdict(replace(question, verdict=None)),
            "verdict": None if question.verdict is None else str(question.verdict),
        }
        for question in rubric.questions
    ]
    return {
        "judge": identity,
        "questions": questions,
        "agents": [one.to_json() for one in judged],
        "agreement": agreement_to_json(agreements(judged)),
    }
