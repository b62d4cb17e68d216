"""What a judge says of an evaluation: numbers by hand, and answers that are asked for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from rlchat.errors import RunError
from rlchat.evaluation.evaluate import EvaluationResult, episode_from_json, episode_to_json
from rlchat.evaluation.judged import JudgedResult, agreements, judge_episodes, rubric_to_json
from rlchat.rewards.rubric.judges import Answers, Asked
from rlchat.rewards.rubric.prompt import Shortened
from rlchat.rewards.rubric.questions import Question, Rubric, Verdict
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Episode
from rlchat.statistics import mean_interval, wilson
from rlchat.statistics.agreement import kappa_interval
from rlchat_envs import Message

SOLVED = Question("solved", "Was it solved?", verdict=Verdict("success"))
RUDE = Question("rude", "Was the agent rude?", good_is_high=False)
CLEAR = Question("clear", "How clear was it?", top=5, verdict=Verdict("clarity", ">", 1.0))
RUBRIC = Rubric((SOLVED, RUDE, CLEAR))


class Reader:
    """A judge whose answers stand in the agent's message: yes or no, yes or no, a number."""

    def __init__(self, name: str = "reader", breaks_at: int = -1) -> None:
        self.identity, self.shortened = name, Shortened()
        self.breaks_at, self.asked = breaks_at, list[tuple[str, tuple[str, ...]]]()

    def answer(self, asked: Sequence[Asked]) -> Iterator[Answers]:
        for one in asked:
            if len(self.asked) == self.breaks_at:
                raise RunError("the judge failed")
            said = one.conversation[-1].content
            self.asked.append((said, tuple(q.name for q in one.questions)))
            solved, rude, clear = said.split()
            known = {"yes": 1.0, "no": 0.0, "?": None}
            found = {"solved": known[solved], "rude": known.get(rude)}
            found["clear"] = None if clear == "?" else float(clear)
            if rude == "-":  # it could not be asked
                del found["rude"]
            yield {q.name: found[q.name] for q in one.questions if q.name in found}


def result(said: Sequence[str], success: Sequence[bool], agent: str = "a") -> EvaluationResult:
    episodes = [
        Episode(
            i,
            100 + i // 2,  # two episodes with each user
            conversation=(Message("user", "hi"), Message("assistant", text)),
            parts=[{"resolution": float(solved)}],
            costs=[{}],
            success=solved,
            terminated=True,
        )
        for i, (text, solved) in enumerate(zip(said, success, strict=True))
    ]
    return EvaluationResult(agent, EnvConfig(), "dev", 0, 0.0, episodes, None, 2)


def judged(one: EvaluationResult, judge: Reader | None = None) -> JudgedResult:
    judge = judge or Reader()
    judge_episodes(one.episodes, RUBRIC, judge)
    return JudgedResult(one, RUBRIC, judge.identity)


SAID = ["yes no 5", "yes no 3", "no yes 1", "? no 2", "no - ?", "yes yes 4"]
SUCCESS = [True, True, False, False, True, False]


def test_metrics_by_hand() -> None:
    found = judged(result(SAID, SUCCESS))
    metrics = found.metrics
    assert list(metrics) == ["solved", "rude", "clear", "rubric"]
    assert metrics["solved"] == mean_interval([1.0, 0.0, 0.5], 0.0, 1.0)
    assert metrics["rude"] == mean_interval([0.0, 0.5, 1.0], 0.0, 1.0)
    assert metrics["clear"] == mean_interval([4.0, 1.5, 4.0], 1.0, 5.0)
    # Goodness: (1 + 1 + 1) / 3, (1 + 1 + ½) / 3; 0, (1 + ¼) / 2; 0, (1 + 0 + ¾) / 3.
    scores = [(1 + 2.5 / 3) / 2, (0 + 0.625) / 2, (0 + 1.75 / 3) / 2]
    assert metrics["rubric"].mean == pytest.approx(sum(scores) / 3)
    assert found.missing == {"solved": (1, 0), "rude": (0, 1), "clear": (1, 0)}


def test_yes_and_no_of_single_episodes_have_wilson_s_interval() -> None:
    one = result(["yes no 1", "yes no 1", "no no 1", "yes no 1"], [True] * 4)
    for i, episode in enumerate(one.episodes):
        episode.seed = i
    assert judged(one).metrics["solved"] == wilson(3, 4)


def test_differences_are_paired_and_leave_out_what_is_missing() -> None:
    other = result(["no no 4", "yes no 3", "no yes 1", "yes no 1", "yes no 1", "no no 4"], SUCCESS)
    found = judged(result(SAID, SUCCESS)).minus(judged(other))
    assert found["solved"] == mean_interval([0.5, 0.0, 0.0], -1.0, 1.0)
    assert found["rude"].mean == pytest.approx((0 + 0 + 1) / 3)
    assert found["clear"] == mean_interval([0.5, 0.5, 0.0], -4.0, 4.0)


def test_agreement_with_the_world_is_of_all_agents_and_by_user() -> None:
    first, second = result(SAID, SUCCESS), result(SAID, [not s for s in SUCCESS], "b")
    found = agreements([judged(first), judged(second)])
    assert list(found) == ["solved", "clear"] and found["clear"] is None  # nobody tells clarity
    solved = found["solved"]
    assert solved is not None and solved.count == 10  # two of twelve could not be read
    rated = [True, True, False, False, True] * 2
    truth = [True, True, False, True, False, False, False, True, False, True]
    seeds = [100, 100, 101, 102, 102] * 2
    assert solved.kappa == kappa_interval(rated, truth, seeds)
    json = rubric_to_json([judged(first), judged(second)])
    assert json["agreement"]["solved"]["count"] == 10 and json["agreement"]["clear"] is None
    assert json["questions"][2]["verdict"] == "clarity > 1"
    assert [one["agent"] for one in json["agents"]] == ["a", "b"]


def test_nothing_is_asked_twice() -> None:
    judge, one = Reader(), result(SAID, SUCCESS)
    judge_episodes(one.episodes, RUBRIC, judge)
    # What could not be read is not asked again; what could not be asked is.
    judge_episodes(one.episodes, RUBRIC, judge)
    assert judge.asked[6:] == [("no - ?", ("rude",))]
    more = Rubric((*RUBRIC.questions, Question("rude", "Was it rude to you?")))
    judge_episodes(one.episodes, Rubric(more.questions[3:]), judge)
    assert len(judge.asked) == 7 + 6  # another text is another question, whatever its name
    judge_episodes(one.episodes, RUBRIC, Reader("another"))
    assert set(one.episodes[0].answers) == {"reader", "another"}


def test_answers_are_kept_with_episodes() -> None:
    one = result(SAID, SUCCESS)
    assert "answers" not in episode_to_json(one.episodes[0])
    judged(one)
    again = [episode_from_json(episode_to_json(e)) for e in one.episodes]
    assert [e.answers for e in again] == [e.answers for e in one.episodes]


def test_a_judge_that_breaks_off_leaves_what_was_answered() -> None:
    one, broken, judge = result(SAID, SUCCESS), Reader(breaks_at=2), Reader()
    with pytest.raises(RunError):
        judge_episodes(one.episodes, RUBRIC, broken)
    assert [bool(e.answers) for e in one.episodes] == [True, True, False, False, False, False]
    assert judged(one, judge).metrics == judged(result(SAID, SUCCESS)).metrics
    assert len(judge.asked) == 4
