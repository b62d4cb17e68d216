"""A person in the agent's place, against the simulated user: they see what the policy sees."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from rlchat.cli.options import PlayOptions
from rlchat.cli.tables import ending, label, parts_line, spoken
from rlchat.cli.terminal import ReadLine, open_lines, printable
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import StepResult, TextEnv
from rlchat.rollout.episodes import Call, caller, directly, play_episode, play_episodes
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Episode
from rlchat_envs import Conversation, Tool, write_call
from rlchat_envs.core.json_schema import types_of

_KEY = re.compile(r"(?:^|(?<=\s))([A-Za-z_]\w*)=")


def run_play(options: PlayOptions, console: Console, read: ReadLine | None = None) -> None:
    """Let a person play the agent.

    Args:
        options: against whom.
        console: shows the conversation.
        read: gives their lines; the terminal or standard input if None.

    Raises:
        UserError: no such environment, or one that does not speak text.
    """
    rollout = RolloutConfig()
    with EnvPool(options.env_config, options.split) as pool:
        call = caller(pool, rollout.timeout)
        env: TextEnv = call(pool.__getitem__, 0)
        read = read or open_lines(console, "play-history")
        try:
            for index in range(options.episodes):
                played = play_one(env, index, options.seed, console, read, call)
                _say(console, f"{ending(played).capitalize()}.")
                if env.case is not None and env.scenario is not None:
                    _say(console, f"Right: {env.case.solution}.")
                    if "expert" in env.scenario.agents:
                        expert = ScenarioAgent("expert")
                        best = play_episodes(expert, pool, [index], options.seed, 0.0, rollout)[0]
                        _say(console, f"The expert, on the same goal: {ending(best)}.")
        except (EOFError, KeyboardInterrupt):
            _say(console, "Goodbye.")


def play_one(
    env: TextEnv,
    index: int,
    seed: int,
    console: Console,
    read: ReadLine,
    call: Call = directly,
) -> Episode:
    """Let a person play one episode, the same that agents play in an evaluation.

    Args:
        env: where.
        index: the episode's number.
        seed: of the evaluation.
        console: shows the conversation.
        read: gives their lines.
        call: calls the environment; see `play_episode`.

    Returns:
        Its record.
    """

    def speak(env: TextEnv) -> str:
        if not any(m.role == "assistant" for m in env.conversation):
            _show(console, env.conversation)
            _show_tools(console, env.tools)
        while not (line := read(label("assistant", "you")).strip()):
            pass
        return called(line, env.tools) if env.tools else line

    def tell(result: StepResult) -> None:
        if result.dropped:
            _say(
                console, f"Left out, as the environment cannot read them: {result.dropped} letters."
            )
        _show(console, result.messages)
        _say(console, parts_line(result.parts))
        if result.costs:
            _say(console, f"unsafe: {', '.join(result.costs)}")

    env_seed, _ = episode_seeds(seed, Purpose.EVALUATE, index)
    return play_episode(env, speak, index, env_seed, tell, call)


def called(line: str, tools: Sequence[Tool]) -> str:
    """A line as the agent's message: ``/NAME key=value …`` calls a function.

    A value goes on to the next key. Where the function's schema asks for no text it is JSON.
    """
    name, _, given = line.removeprefix("/").partition(" ")
    if not line.startswith("/"):
        return line
    keys = list(_KEY.finditer(given))
    ends = [*(key.start() for key in keys[1:]), len(given)][: len(keys)]
    values = {k[1]: given[k.end() : end].strip() for k, end in zip(keys, ends, strict=True)}
    schema = next((tool.parameters for tool in tools if tool.name == name), {})
    kinds = {k: types_of(schema.get("properties", {}).get(k), schema) for k in values}
    return write_call(name, {k: _value(text, kinds[k]) for k, text in values.items()})


def _value(text: str, types: Sequence[str]) -> object:
    if not types or "string" in types:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _show_tools(console: Console, tools: Sequence[Tool]) -> None:
    """Tell what can be called, and how."""
    for tool in tools:
        keys = ", ".join(tool.parameters.get("properties", {}))
        about = str(tool.declaration["function"].get("description", ""))
        _say(console, f"/{tool.name} {keys}: {about}".strip())
    if tools:
        first = tools[0]
        keys = " ".join(f"{key}=…" for key in first.parameters.get("properties", {}))
        _say(console, f"Call a function with a line such as: /{first.name} {keys}".rstrip())


def _show(console: Console, messages: Conversation) -> None:
    for message in messages:
        console.print(spoken(message), soft_wrap=not console.is_terminal)


def _say(console: Console, text: str) -> None:
    console.print(Text(printable(text), "dim"), soft_wrap=not console.is_terminal)
