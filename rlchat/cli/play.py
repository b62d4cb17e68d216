"""A person in the agent's place, against the simulated user: they see what the policy sees."""

from __future__ import annotations

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
from rlchat_envs import Conversation


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
        while not (line := read(label("assistant", "you")).strip()):
            pass
        return line

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


def _show(console: Console, messages: Conversation) -> None:
    for message in messages:
        console.print(spoken(message), soft_wrap=not console.is_terminal)


def _say(console: Console, text: str) -> None:
    console.print(Text(printable(text), "dim"), soft_wrap=not console.is_terminal)
