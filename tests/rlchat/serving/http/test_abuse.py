"""Requests that no well-behaved client sends: each is refused in OpenAI's shape, and none lasts."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlchat.inference.model_agent import ModelAgent
from rlchat.serving.http import completions
from rlchat.serving.http.errors import ApiError
from rlchat.serving.http.keys import Keys, hash_of
from rlchat.serving.http.memory import ConversationMemory
from rlchat.serving.http.wire import read_request
from rlchat_envs import Message, Tool
from rlchat_envs.core.messages import declare
from tests.rlchat.serving.http.conftest import Running, Serve

HI = [{"role": "user", "content": "Hi"}]
JSON = {"Content-Type": "application/json"}
# Half of a character in what a function was called with, in JSON within JSON.
_CALLED = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "1",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"a": "\\ud800"}'},
        }
    ],
}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and len(error["message"]) < 400
    assert "Traceback" not in error["message"]
    return error


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": True}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, None),
        ({"seed": 2**63}, "seed"),
        ({"stop": [str(i) for i in range(100)]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": "x" * 1000}, "stop"),
        ({"stop": 5}, "stop"),
        ({"top_logprobs": 5}, None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": HI * 10_000}, "messages"),
        ({"messages": [{"role": "root", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
        ({"messages": [_CALLED, *HI]}, "messages"),
        ({"model": 5}, "model"),
        ({"model": "large"}, "model"),
        ({"tools": [{"type": "function", "function": {"name": "no blanks"}}]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temprature": 1}, "temprature"),
        ({"prompt_token_ids": []}, "prompt_token_ids"),
        ({"prompt_token_ids": [-1]}, "prompt_token_ids.0"),
    ],
)
def test_what_cannot_be_done_is_refused(
    server: Running, wish: dict[str, Any], param: str | None
) -> None:
    answer = server.post(**wish)
    assert answer.status_code in (400, 404), answer.text
    assert error_of(answer)["param"] == param, answer.text


@pytest.mark.parametrize(
    "wish",
    [
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": None, "user": "me"},
        {"response_format": {"type": "text"}, "parallel_tool_calls": True, "metadata": {"a": "b"}},
        {"seed": -1, "stop": None, "n": 1, "stream": False, "temperature": 0},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Hi"}]}]},
        {"messages": [{"role": "assistant", "content": "I begin", "refusal": None}]},
        {"messages": [*HI, {"role": "assistant", "content": "a"}] * 3},
        {"messages": [*HI, *HI, {"role": "system", "content": ""}]},
        {"messages": [{"role": "tool", "content": "found", "tool_call_id": "x"}]},
        {"messages": [{"role": "user", "content": "\x00\u202e<|im_end|>\U0010ffff"}]},
        {"max_tokens": 10**9, "stop": list("aeiou")[:4]},
        {"temperature": 1e-39},
    ],
)
def test_what_can_be_done_is_done(server: Running, wish: dict[str, Any]) -> None:
    answer = server.post(**{"max_tokens": 2, **wish})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xff\xfe\x00", "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b'{"temperature": Infinity}', "invalid_json"),
        (b'{"n": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', "invalid_text"),
        (b'{"\\udc00": 1}', "invalid_text"),
    ],
)
def test_what_is_no_request_is_refused(server: Running, body: bytes, code: str) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 400 and error_of(answer)["code"] == code


def test_paths_methods_and_types_that_are_none_are_refused(server: Running) -> None:
    url = server.url
    for answer, status in (
        (httpx.get(f"{url}/v1/completions"), 404),
        (httpx.get(f"{url}/v1/chat/completions"), 405),
        (httpx.delete(f"{url}/v1/models"), 405),
        (httpx.post(f"{url}/v1/chat/completions", content=b"{}"), 415),
        (httpx.get(f"{url}/health", headers={"Host": "evil.example"}), 400),
    ):
        assert answer.status_code == status
        error_of(answer)


def test_a_body_that_is_too_long_is_not_read(server: Running) -> None:
    url = f"{server.url}/v1/chat/completions"
    declared = httpx.post(url, content=b"x" * 10_000_000, headers=JSON)
    assert declared.status_code == 413 and error_of(declared)["code"] == "request_too_large"

    def pieces() -> Any:
        for _ in range(30):
            yield b"x" * 100_000

    chunked = httpx.post(url, content=pieces(), headers=JSON)
    assert chunked.status_code == 413


def test_keys_are_asked_for(serve: Serve) -> None:
    server = serve(Keys((hash_of("the right key"), hash_of("another key"))))
    url = f"{server.url}/v1/models"
    for header in ("Bearer wrong", "Bearer", "the right key", "Basic the right key", "Bearer \xe9"):
        headers = {"Authorization": header.encode("latin-1")}
        answer = httpx.get(url, headers=headers)
        assert answer.status_code == 401 and error_of(answer)["code"] == "invalid_api_key"
    assert httpx.get(url).status_code == 401
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert server.post().status_code == 401
    assert httpx.get(f"{server.url}/health").status_code == 200
    for key in ("the right key", "another key"):
        assert [model.id for model in server.openai(key).models.list()] == ["tiny"]


def test_a_client_that_leaves_frees_its_row_at_once(serve: Serve) -> None:
    server = serve(rows=1)
    model = server.service.models["tiny"]
    for stream in (True, False):
        wish = {"model": "tiny", "messages": HI, "max_tokens": 2000, "temperature": 0}
        body = json.dumps({**wish, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            client.sendall(head + body)
            wait_until(lambda: bool(model.lane.running))
        wait_until(lambda: not model.lane.running)
        wait_until(lambda: not model.live)
    told = httpx.get(f"{server.url}/metrics").text
    assert 'rlchat_cancelled_requests_total{model="tiny"} 2.0' in told
    assert server.post(max_tokens=1).status_code == 200


def test_who_never_ends_a_request_is_left(serve: Serve) -> None:
    server = serve(read_s=0.4)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(5)
        began = time.monotonic()
        for letter in head:
            try:
                slow.sendall(bytes([letter]))
                time.sleep(0.05)
            except OSError:
                break
        assert time.monotonic() - began < 2
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(5)
        slow.sendall(head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.settimeout(5)
        assert idle.recv(1) == b""
    with httpx.Client() as twice:  # a connection that is used again has all of its time again
        for _ in range(2):
            assert twice.get(f"{server.url}/health").status_code == 200
            time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.settimeout(5)
        other.sendall(b"what is this\r\n\r\n")
        answer = other.recv(1000)
        assert answer.startswith(b"HTTP/1.1 400") and b'"code": "invalid_http"' in answer


def test_what_breaks_is_told_without_words(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what somebody said")

    monkeypatch.setattr(completions, "read_request", broken)
    answer = server.post()
    assert answer.status_code == 500 and error_of(answer)["code"] == "internal_error"
    wait_until(lambda: "RuntimeError in broken (test_abuse.py:" in caplog.text)
    assert "somebody" not in caplog.text + answer.text


def wait_until(found: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"])},
        optional={"content": _VALUES | st.text(), "tool_calls": _VALUES},
    ),
    max_size=4,
)
_OPTIONS = ("n", "stop", "seed", "tools", "temperature", "logprobs", "stream_options", "top_k")


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries(
        {"messages": _VALUES | _MESSAGES},
        optional=dict.fromkeys(_OPTIONS, _VALUES),
    )
)
def test_nothing_that_is_sent_breaks_what_reads_it(request_: dict[str, Any]) -> None:
    body = json.dumps({"model": "tiny", **request_}).encode()
    try:
        read = read_request(body, 100)
        assert isinstance(read.conversation, tuple)
    except ApiError as error:
        assert 400 <= error.status < 500 and error.message


_TALK = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=12)),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_TALK, st.booleans())
def test_any_conversation_can_be_written(
    agent: ModelAgent, talk: list[tuple[Any, str]], functions: bool
) -> None:
    messages = tuple(Message(role, text) for role, text in talk)
    tools = [Tool.of("find", "Finds it.", {"type": "object", "properties": {}})]
    memory = ConversationMemory(agent.template)
    context, drawn = memory.prompt(declare(messages, tools if functions else []), "greedy", 5)
    start = agent.template.opening((Message("user", "x"),))[-3:]
    assert context.ids[-3:] == start and context.begin == len(context.ids)
    said = [m for m in messages if m.role == "assistant"]
    assert drawn >= len(said)
