"""Functions that environments declare, from ``reset`` to tokens, transcripts and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult, evaluate
from rlchat.feedback.export import _row
from rlchat.feedback.recorder import RatingContext, RatingRecorder
from rlchat.inference.agents import Reply
from rlchat.inference.load_agent import load_agent
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.streaming import TextStream
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.policy import Policy
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.conversations import conversation, read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat.rollout.hosting.isolated import ProcessEnv
from rlchat.rollout.probe import probe
from rlchat.serving.session import MOST_CALLS, ChatSession
from rlchat_envs import Message, declared, read_message, write_call
from rlchat_envs.core.messages import of_row, to_row
from rlchat_envs.core.tools import read_tools

SUPPORT = EnvConfig("rlchat/SupportTools-v0")
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
NOW = write_call("now", {})
PRINTABLE = "".join(map(chr, range(32, 127)))


class Clock(gym.Env[str, str]):
    """Tells the time to whoever calls for it, and ends when nobody does."""

    declared: Any = TOOLS
    observation_space = action_space = gym.spaces.Text(4096, charset=PRINTABLE)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.talk: list[dict[str, Any]] = [{"role": "user", "content": "What time is it?"}]
        return list(self.talk), {"tools": self.declared}

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        over = "tool_call" not in action
        called = {"type": "function", "function": {"name": "now", "arguments": "{}"}}
        said = {"role": "assistant", "content": None, "tool_calls": [called]}
        self.talk += [said, {"role": "tool", "content": "Nine."}]
        return ("bye" if over else list(self.talk)), 0.0, over, False, {}


gym.register("tests/Clock-v0", Clock, disable_env_checker=True)


def clock() -> TextEnv:
    return TextEnv(EnvConfig("tests/Clock-v0"))


def test_any_environment_may_declare_functions() -> None:
    with clock() as env:
        (asked,) = env.reset(0)
        assert [tool.declaration for tool in env.tools] == TOOLS and asked.tools == env.tools
        result = env.step(NOW)  # its own observation has the call as transformers has it
        assert result.messages == (Message("tool", "Nine."),) and not result.terminated
        assert env.conversation[1].content == NOW and declared(env.conversation) == env.tools
        assert env.step("It is nine.").terminated
    with TextEnv(EnvConfig()) as plain:
        plain.reset(0)
        assert plain.tools == ()


@pytest.mark.parametrize("wrong", ["now", 3, [{"name": "now"}], TOOLS * 2])
def test_what_is_no_declaration_is_refused_in_a_sentence(
    wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "declared", wrong)
    with clock() as env, pytest.raises(EnvError) as caught:
        env.reset(0)
    told = str(caught.value)
    assert told.startswith("expected ") and 'info["tools"] of reset() of tests/Clock-v0' in told
    assert "\n" not in told
    with pytest.raises(UserError, match="tools"):
        probe(EnvConfig("tests/Clock-v0"), RolloutConfig())


@pytest.mark.parametrize("space", [gym.spaces.Text(4096), gym.spaces.Text(20, charset=PRINTABLE)])
def test_calls_must_have_a_place_among_actions(
    space: gym.spaces.Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gymnasium's text has neither brackets nor spaces unless somebody asks for them."""
    monkeypatch.setattr(Clock, "action_space", space)
    with clock() as env, pytest.raises(EnvError, match="that has room for <tool_call>"):
        env.reset(0)


def test_a_probe_calls_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    step = Clock.step
    monkeypatch.setattr(Clock, "step", lambda self, text: said.append(text) or step(self, text))
    probe(EnvConfig("tests/Clock-v0"), RolloutConfig())
    assert said[0].startswith("<tool_call>") and not said[-1].startswith("<tool_call>")


def test_a_process_of_its_own_passes_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(__file__).parents[1])
    monkeypatch.syspath_prepend(folder)
    with ProcessEnv(EnvConfig("text_envs:tests/Calls-v0"), "train", 60.0) as env:
        env.reset(0)
        assert [tool.name for tool in env.tools] == ["right", "wrong"]
        assert env.step(write_call("right", {})).messages == (Message("tool", "done"),)


def test_demonstrations_are_read_as_rollouts_are(make_policy: Callable[..., Policy]) -> None:
    """Ids of an expert's conversation are those of a rollout in which it is said."""
    policy = make_policy()
    config = RolloutConfig(rows=2, max_new_tokens=24, max_tokens=2_000)
    keys = [(i, (0, 0, 1, i), (0, 0, 2, i)) for i in range(2)]
    with EnvPool(SUPPORT) as pool:
        played = collect(policy.generation_model(), policy.template, pool, keys, config)
    template = policy.template
    for trajectory in played:
        talk = trajectory.conversation
        assert [t.name for t in declared(talk)] == ["lookup_order", "lookup_policy"]
        assert trajectory.ids[: trajectory.action_mask.index(True)] == template.opening(talk[:2])
    (shown, *_) = demonstrate(SUPPORT, 1, 0)
    ids = template.conversation(shown)
    text = str(template.tokenizer.decode(ids.ids))
    for message in shown:
        for call in read_message(message.content).calls:
            assert write_call(call.name, call.arguments) in text
    assert all(m.content in text for m in shown[:-1] if m.role in ("user", "tool"))


def test_results_follow_a_call_that_a_policy_has_sampled() -> None:
    """What it sampled stays as it is; what follows is written as after a call."""
    tokenizer = byte_tokenizer()
    template = ChatTemplate(tokenizer)
    with TextEnv(SUPPORT) as env:
        env.reset(0)
        sampled = '<tool_call>  {"name":"lookup_order","arguments":{"order_id":"A1"}}'
        ids = [*tokenizer(sampled)["input_ids"], template.end_of_turn]
        result = env.step(template.text(ids, env.tools))
    assert [m.role for m in result.messages] == ["tool"]
    assert "There is no order A1." in tokenizer.decode(template.after(result.messages))


def test_transcripts_and_results_keep_what_was_declared() -> None:
    result = evaluate(load_agent("expert"), SUPPORT, EvalConfig(episodes=2))
    assert all(episode.success for episode in result.episodes)
    kept = json.loads(json.dumps(result.to_json()))
    back = EvaluationResult.from_json(kept)
    talk = back.episodes[0].conversation
    assert talk == result.episodes[0].conversation and declared(talk)
    assert of_row(to_row(talk)) == talk == conversation(to_row(talk))


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "now", "arguments": {}}}],
}
ASKED, TOLD = {"role": "user", "content": "What time is it?"}, {"role": "tool", "content": "Nine."}
SAID = {"role": "assistant", "content": "It is nine."}


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, CALLED, TOLD, SAID]},
        {
            "system": "Be kind.",
            "conversations": [
                {"from": "human", "value": "What time is it?"},
                {"from": "function_call", "value": '{"name": "now", "arguments": {}}'},
                {"from": "observation", "value": "Nine."},
                {"from": "gpt", "value": "It is nine."},
            ],
        },
    ],
)
def test_files_of_conversations_that_call_functions(
    row: dict[str, Any], tools: Any, tmp_path: Path
) -> None:
    """Where they are declared; without that nobody says the calls, as before."""
    path = tmp_path / "talks.jsonl"
    path.write_text(f"{json.dumps({**row, 'tools': tools})}\n{json.dumps(row)}\n")
    declaring, plain = read_conversations(path)
    assert [tool.declaration for tool in declared(declaring)] == TOOLS
    assert NOW in [m.content for m in declaring] and declaring[-1].content == "It is nine."
    assert not declared(plain) and len(plain) == len(declaring) - 1


def test_a_file_that_declares_no_functions_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    rows = [{"messages": [ASKED, SAID], "tools": t} for t in ("{", [{"name": "now"}])]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(UserError, match="expected tools to be a list of functions"):
        read_conversations(path)


class Caller:
    """Calls functions for ever."""

    def reply(self, conversation: object, privileged: object) -> Reply:
        return Reply(NOW)


def test_a_person_is_answered_after_the_calls() -> None:
    env = TextEnv(SUPPORT, "dev")
    session = ChatSession("expert", env, seed=1)
    assert session.case is not None
    number = session.case.privileged["order_number"]
    pieces = list(session.reply(f"My order is {number}."))
    roles = [m.role for m in session.conversation]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert pieces[0].startswith("<tool_call>") and pieces[1] == "\n"
    assert session.solved is True and len(session.parts) == 2
    assert session.to_json()["tools"]


def test_an_agent_that_only_calls_lets_the_person_speak_in_the_end() -> None:
    session = ChatSession(Caller(), TextEnv(SUPPORT, "dev"), seed=1)
    for turn in (1, 2):
        list(session.reply("Hello?"))
        assert session.conversation[-1].role == "assistant" and not session.unanswered
        assert len(session.parts) == turn * (MOST_CALLS + 1) and session.solved is None
    roles = [m.role for m in session.conversation]
    assert roles.count("tool") == roles.count("assistant") - 1


def test_a_tiny_model_talks_where_functions_are_declared(
    make_policy: Callable[..., Policy],
) -> None:
    """Its prompt is the declared opening, and each of its messages is as `text` reads it."""
    agent = ModelAgent.of(make_policy(noise=1.0))
    rollout = RolloutConfig(max_new_tokens=12, max_tokens=2_000)
    session = ChatSession(agent, TextEnv(SUPPORT), rollout=rollout)
    for text in ("hello", "and now?"):
        "".join(session.reply(text))
    tools = declared(session.conversation)
    assert len(tools) == 2 and session.last_reply is not None
    text = agent.template.text(session.last_reply.ids, tools)
    assert session.last_reply.text == text.rstrip("\N{REPLACEMENT CHARACTER}")
    template = agent.template
    talk = session.conversation
    assert template.prompt(talk[:2]) == template.opening(talk[:2])
    assert template.prompt(talk[:4])[: len(template.opening(talk[:2]))] == template.opening(
        talk[:2]
    )


def test_ratings_keep_the_functions_and_are_exported_with_them(tmp_path: Path) -> None:
    (shown, *_) = demonstrate(SUPPORT, 1, 0)
    about = RatingContext("p", "a", "v", SUPPORT.env, 0.0, tmp_path / "ratings.db", str)
    recorder = RatingRecorder(about)
    recorder.spoke(shown[:2], Reply("Order number?"))
    assert json.loads(recorder.replies[0].context[0]["tools"]) == to_row(shown)["tools"]
    row = _row("messages", recorder.replies[0].context)
    assert row == to_row(shown[:2])
    asked = {"prompt": row["messages"], "completion": [CALLED], "tools": row["tools"]}
    assert conversation(asked)[:2] == shown[:2]
    assert read_message(conversation(asked)[2].content).calls[0].name == "now"


def test_a_call_that_is_cut_off_is_a_broken_one_and_is_shown_whole() -> None:
    """Words come as they are sampled; a call comes once it is there, or as far as it came."""
    tokenizer = byte_tokenizer()
    template, (tool,) = ChatTemplate(tokenizer), Clock.declared
    shown: list[str] = []
    stream = TextStream(template, shown.append, read_tools([tool]))
    ids = tokenizer('Wait. <tool_call>{"name": "no')["input_ids"]
    for end in range(1, len(ids) + 1):
        stream.show(ids[:end], last=False)
    assert "".join(shown) == "Wait."
    text = stream.show(ids, last=False, over=True)
    assert text == "".join(shown) and read_message(text).calls[0].error
