"""Environments in processes of their own: one that crashes or hangs costs an episode, and no run.

The two ends exchange lines of JSON, so that nothing that a process says is executed here.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO

import gymnasium as gym

from rlchat.errors import UserError
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import MakeEnv, is_ours
from rlchat.rollout.environment import EnvConfig, StepResult, TextEnv
from rlchat.rollout.hosting.answers import EnvError
from rlchat_envs import Conversation, Message, Tool, declare

CLOSING = 2.0  # seconds that a process may take to close its environment
_LIVE: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def kind_of(rollout: RolloutConfig) -> MakeEnv:
    """What makes environments with these settings; see `EnvPool`."""
    return partial(_isolated, timeout=rollout.timeout) if rollout.isolate else TextEnv


def _isolated(config: EnvConfig, split: str, timeout: float) -> TextEnv:
    """An environment of somebody else's in a process; ours harm nobody and stay here."""
    return TextEnv(config, split) if is_ours(config) else ProcessEnv(config, split, timeout)


class ProcessEnv(TextEnv):
    """One episode at a time of an environment that lives in a process of its own."""

    def __init__(self, config: EnvConfig, split: str, timeout: float):
        """Start the process, and make the environment in it.

        Raises:
            EnvError: it cannot be made, or takes longer than so many seconds (0: no limit).
        """
        self._process = _Process(config, timeout)
        super().__init__(config, split)

    def _made(self) -> gym.Env[str, str]:
        try:
            self._process.ask({"make": asdict(self.config), "split": self.split})
        except BaseException:
            self._process.close()
            raise
        return self._process

    def reset(self, seed: int) -> Conversation:
        """Start an episode; see `TextEnv.reset`."""
        answer = self._process.ask({"reset": seed})
        tools = [Tool(name, text) for name, text in answer["tools"]]
        self.conversation = declare(_messages(answer["messages"]), tools)
        return self.conversation

    def step(self, text: str) -> StepResult:
        """Give the agent's message to the environment; see `TextEnv.step`."""
        answer = self._process.ask({"step": text})
        following = _messages(answer["messages"])
        self.conversation += (Message("assistant", text), *following)
        ends = bool(answer["terminated"]), bool(answer["truncated"])
        return StepResult(
            following, answer["parts"], *ends, success=None, dropped=int(answer["dropped"])
        )


class _Process(gym.Env[str, str]):
    """The process of an environment, as seen from here; its end closes it."""

    def __init__(self, config: EnvConfig, timeout: float):
        self._name, self._timeout = config.env, timeout
        # A session of its own: Ctrl-C is for this process, which then ends the others.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            start_new_session=True,
        )
        _LIVE.add(self._process)

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the process something, and wait for its answer.

        Raises:
            EnvError: its environment failed, it took too long and was killed, or it has crashed.
        """
        late = threading.Event()
        timer = threading.Timer(self._timeout, _kill_late, (self._process, late))
        if self._timeout:
            timer.daemon = True
            timer.start()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # it has ended, or was closed meanwhile
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._ended(late.is_set())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EnvError(answer["error"])
        return answer

    def close(self) -> None:
        """Have the environment closed, and its process ended: by force, if it takes too long."""
        process = self._process
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(CLOSING)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _ended(self, late: bool) -> EnvError:
        if late:
            return EnvError(
                f"expected an answer of {self._name} within {self._timeout:g} seconds; there is "
                "none, and its process was killed; allow more with --rollout.timeout, or mend "
                "what it waits for"
            )
        self._process.kill()
        status = self._process.wait()
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        return EnvError(
            f"expected an answer of {self._name}; its process ended with {how}; mend the "
            "environment"
        )


def _kill_late(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


@atexit.register
def _kill_all() -> None:
    """Leave no process behind, not even one that hears nothing."""
    for process in list(_LIVE):
        if process.poll() is None:
            process.kill()


def _messages(told: list[list[str]]) -> Conversation:
    return tuple(Message(role, content) for role, content in told)  # type: ignore[arg-type]


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer the questions of `_Process`, until there are no more."""
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions, asked), daemon=True).start()
    env: TextEnv | None = None
    while line := asked.get():
        question = json.loads(line)
        try:
            if "make" in question:
                made: dict[str, Any] = {k: _hashable(v) for k, v in question["make"].items()}
                env = TextEnv(EnvConfig(**made), question["split"])
                answer: dict[str, Any] = {}
            else:
                assert env is not None
                answer = _reset(env, question) if "reset" in question else _step(env, question)
        except (UserError, RuntimeError) as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    if env is not None:
        env.close()


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _listen(questions: BinaryIO, asked: queue.SimpleQueue[bytes]) -> None:
    """Take questions; when there are no more, end in any case, whatever the environment does."""
    for line in questions:
        asked.put(line)
    asked.put(b"")
    threading.Event().wait(CLOSING)
    os._exit(1)


def _reset(env: TextEnv, question: Mapping[str, Any]) -> dict[str, Any]:
    messages = env.reset(question["reset"])
    tools = [[tool.name, tool.text] for tool in env.tools]
    return {"messages": [[m.role, m.content] for m in messages], "tools": tools}


def _step(env: TextEnv, question: Mapping[str, Any]) -> dict[str, Any]:
    result = env.step(question["step"])
    return {
        "messages": [[m.role, m.content] for m in result.messages],
        "parts": dict(result.parts),
        "terminated": result.terminated,
        "truncated": result.truncated,
        "dropped": result.dropped,
    }


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an environment prints is not for the other end
    serve(os.fdopen(os.dup(0), "rb"), channel)
    os._exit(0)  # threads that an environment has left behind are not waited for
