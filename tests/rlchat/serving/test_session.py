"""Live conversations: replies in pieces, scores, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import pytest

from rlchat.errors import UserError
from rlchat.inference.agents import ContextFull, Reply
from rlchat.inference.load_agent import load_agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.policy import Policy
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.serving.session import ChatSession

SHORT = RolloutConfig(max_new_tokens=12, max_tokens=1024)


@pytest.fixture(scope="module")
def tiny(make_policy: Callable[..., Policy]) -> ModelAgent:
    return ModelAgent.of(make_policy(noise=1.0))


def test_a_reply_comes_in_pieces(tiny: ModelAgent) -> None:
    """They are what `answer` gives at once, and the conversation is the same afterwards."""
    streamed, whole = (ChatSession(tiny, rollout=SHORT, temperature=1.0, seed=3) for _ in range(2))
    for text in ("hello", "and now?"):
        pieces = list(streamed.reply(text))
        whole.person(text)
        reply = whole.answer()
        assert len(pieces) > 1 and "".join(pieces).strip() == reply.text
        assert streamed.last_reply == reply == whole.last_reply
    assert streamed.conversation == whole.conversation
    assert streamed.parts == whole.parts and len(streamed.parts) == 2


def test_who_stops_taking_pieces_stops_the_reply(tiny: ModelAgent) -> None:
    session = ChatSession(tiny, rollout=SHORT)
    pieces = session.reply("hello")
    shown = next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert session.last_reply is not None and session.last_reply.stopped
    assert session.conversation[-1].content == session.last_reply.text == shown.strip()
    assert session.parts[-1]["cut_off"] == -SHORT.cut_off_penalty
    assert "".join(session.reply("go on")).strip() == session.conversation[-1].content
    assert [m.role for m in session.conversation] == ["user", "assistant"] * 2


def test_a_reply_that_runs_out_of_tokens_costs_as_in_training(tiny: ModelAgent) -> None:
    session = ChatSession(tiny, rollout=RolloutConfig(max_new_tokens=1, cut_off_penalty=0.3))
    session.person("hello")
    reply = session.answer()
    assert not reply.finished and session.penalty(reply) == 0.3
    assert session.parts[-1]["cut_off"] == -0.3
    assert session.penalty(Reply("Done.")) == 0.0


def test_the_environment_answers_and_judges() -> None:
    """A person who reads the card out is helped by the expert, and the case closes by itself."""
    env = TextEnv(EnvConfig(), "dev")
    session = ChatSession(load_agent("expert"), env, seed=1)
    assert session.case is not None
    told = session.case.privileged
    said = [f"My order is {told['order_number']}.", f"It is {told['detail']}.", "Please go on."]
    for text in said:
        if session.solved is None:
            assert len(list(session.reply(text))) == 1
    assert session.solved is True and session.score > 0
    assert any(m.role == "tool" for m in session.conversation)
    assert session.conversation[-1].role == "assistant"


def test_a_session_scores_as_the_environment_does() -> None:
    """With its scorer and its discount, where the simulated user speaks."""
    config = EnvConfig(gamma=0.5)
    session = ChatSession("demonstrator", TextEnv(config, "dev"), seed=2)
    while session.solved is None:
        session.simulated()
        if session.solved is None:
            session.answer()
    twin = TextEnv(config, "dev")
    twin.reset(episode_seeds(2, Purpose.CHAT, 0)[0])
    said = [m.content for m in session.conversation if m.role == "assistant"]
    steps = [twin.step(text) for text in said]
    assert len(steps) > 1 and steps[-1].terminated
    assert session.parts == [dict(step.parts) for step in steps]
    assert any(step.parts["progress"] for step in steps[:-1])


def test_a_persons_turns_have_costs_too() -> None:
    """Giving an answer away is a cost, whoever is the pupil; nobody but the environment says so."""
    session = ChatSession("random", TextEnv(EnvConfig("rlchat/Tutoring-v0"), "dev"), seed=1)
    assert session.case is not None
    charged = []
    for text in ("hello", "and now?", "well"):
        session.person(text)
        reply = session.answer()
        charged.append(dict(session.case.costs_of(reply.text)))
    session.person("bye")
    assert session.costs == charged == session.to_json()["costs"]
    assert len(session.parts) == 3


def test_a_full_context_is_told(tiny: ModelAgent) -> None:
    session = ChatSession(tiny, rollout=RolloutConfig(max_new_tokens=8, max_tokens=120))
    with pytest.raises(ContextFull):
        for _ in range(12):
            list(session.reply("I say something of some length."))
    before = session.conversation
    assert session.unanswered
    with pytest.raises(ContextFull):
        session.reply("Hello?")
    assert session.conversation == before


def test_where_a_person_cannot_be_the_user(tiny: ModelAgent) -> None:
    gym.register("Alone-v0", "tests.rlchat.text_envs:Bandit")
    try:
        with pytest.raises(UserError, match="expected an environment in which a person can be"):
            ChatSession(tiny, TextEnv(EnvConfig("Alone-v0")))
    finally:
        del gym.registry["Alone-v0"]
