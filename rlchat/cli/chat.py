"""Talk to an agent in the terminal: a person is the user, the environment's desk answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlchat import files
from rlchat.cli import rating_commands
from rlchat.cli.options import ChatOptions
from rlchat.cli.tables import indented, label, readable, spoken
from rlchat.cli.terminal import ReadLine, at_terminal, open_lines, printable
from rlchat.errors import UserError
from rlchat.feedback.recorder import RatingRecorder
from rlchat.inference.agents import Agent, AgentConversation, ContextFull, Reply
from rlchat.inference.load_agent import ENDPOINT, load_agent
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.knowledge import make_lookup
from rlchat.serving.session import MOST_CALLS, ChatSession
from rlchat.settings import names
from rlchat_envs import Conversation
from rlchat_envs.knowledge import Lookup

FULL = (
    "The conversation has filled the agent's context; /reset starts another "
    "(--rollout.max-tokens gives more room)."
)


def run_chat(options: ChatOptions, console: Console, read: ReadLine | None = None) -> None:
    """Let a person talk to an agent until they leave.

    Args:
        options: whom they talk to.
        console: shows the conversation.
        read: gives their lines; the terminal or standard input if None.

    Raises:
        UserError: nobody of that name, or an environment in which a person cannot be the user.
    """
    env = environment_of(options)
    agent = load_agent(
        options.agent, options.policy, options.adapter, lambda line: console.print(Text(line))
    )
    if env is None and agent.batched is None and not options.agent.startswith(ENDPOINT):
        raise UserError(
            f"expected a model or a run folder to talk to without an environment; {options.agent} "
            "only knows its scenario; leave --env out"
        )
    chat = Chat(options, agent, env, console, read or open_lines(console, "chat-history"))
    try:
        chat.begin()
        while chat.line(chat.read(label("user", "you"))):
            pass
    except (EOFError, KeyboardInterrupt):
        pass
    if at_terminal(console):
        rating_commands.ask_stars(chat)
    chat.say("Goodbye.")


def environment_of(options: ChatOptions) -> TextEnv | None:
    """The environment that a person talks in; None if they talk without one.

    Raises:
        UserError: no such environment, or one in which a person cannot be the user.
    """
    if options.env == "":
        return None
    config = options.env_of(options.agent)
    env = TextEnv(config, options.split)
    if not env.ours:
        raise UserError(
            f"expected an environment in which a person can be the user; {config.env} has no such "
            "part; play the agent in it with rlchat play, or talk without one with --env ''"
        )
    return env


class Chat:
    """A person's conversations with an agent, one after the other, and the commands between."""

    def __init__(
        self,
        options: ChatOptions,
        agent: Agent,
        env: TextEnv | None,
        console: Console,
        read: ReadLine,
    ):
        """Prepare; `begin` opens the first conversation."""
        self.options, self.agent, self.env, self.console = options, agent, env, console
        self.read, self.order = read, random.Random(options.seed)  # of A and B
        self.env_id = "" if env is None else env.config.env
        self.about = rating_commands.rating_context(options, self.env_id, agent.version)
        self._count = 0
        self._earlier: list[dict[str, Any]] = []
        self._own_lookups: tuple[Lookup, ...] = ()  # of talk without an environment
        self._own_style: tuple[str, ...] = ()  # likewise
        if env is None:
            self._own_style = EnvConfig(stated_style=names(options.stated_style or "")).stated_style
            self._own_lookups = tuple(make_lookup(k) for k in names(options.knowledge or ""))
        self.session: ChatSession
        self.talk: AgentConversation
        self.ratings: RatingRecorder

    def begin(self) -> None:
        """Greet, and open the first conversation."""
        self.say(f"You talk to {self.options.agent}. /help lists what you can do; Ctrl-D leaves.")
        self.say(rating_commands.promise(self.options))
        self._open()

    def line(self, line: str) -> bool:
        """Take a line of the person's; False if they leave."""
        if not line.startswith("/") and line.rstrip() not in COMMANDS:
            if line.strip():
                self._turn(line.strip())
            return True
        word, _, rest = line.partition(" ")
        if word == "/quit":
            return False
        if word in COMMANDS:
            COMMANDS[word][0](self, rest.strip())
        else:
            near = get_close_matches(word, [*COMMANDS, "/quit"], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            self.say(f"There is no {word}; {hint}/help lists the commands.")
        return True

    def say(self, text: str) -> None:
        """Print a line that neither the agent nor the environment said."""
        self.show(Text(printable(text), "dim"))

    def help(self, _: str) -> None:
        """List the commands: ``/help``."""
        table = Table.grid(padding=(0, 2))
        for _command, words, about in COMMANDS.values():
            if words:
                table.add_row(words, about)
        table.add_row("/quit", "leave; so do Ctrl-D and Ctrl-C at the prompt")
        self.console.print(table)
        self.say(
            "Anything else is said to the agent, a line that starts with a space in any case; "
            "Ctrl-C stops the agent while it speaks."
        )

    def reset(self, _: str) -> None:
        """Open another conversation: ``/reset``."""
        self._earlier = self._transcripts()
        self._open()

    def save(self, name: str) -> None:
        """Write every conversation of this chat, one a line, for its owner to read: ``/save``."""
        path, rows = files.at_home(name), self._transcripts()
        if not name or not rows:
            self.say("There is nothing to save yet." if name else "Say where: /save FILE.")
            return
        try:
            if path.exists():
                self.say(f"{path} exists and stays as it is; name another file.")
            elif not path.resolve().parent.is_dir():
                self.say(f"There is no folder {path.parent}; name a file in one that exists.")
            else:
                lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
                files.write_text(path, "".join(lines), private=True)
                self.say(f"Saved {len(rows)} conversation{'s' * (len(rows) > 1)} in {path}.")
        except (OSError, ValueError) as error:
            self.say(f"Could not save {path}: {error}.")

    def user(self, turns: str) -> None:
        """Let the simulated user speak in the person's place: ``/user``."""
        if self.session.case is None:
            self.say("There is no simulated user without an environment.")
            return
        if turns and not (turns.isdecimal() and int(turns)):
            self.say(f"Say how many turns, as in /user 1, or /user for all; got {turns}.")
            return
        if self.session.solved is not None:
            self.say("The case is closed; /reset opens another.")
            return
        if self.session.unanswered:
            self.say(FULL)
            return
        left, said = int(turns) if turns else -1, None
        while left and self.session.solved is None:
            self._show_all(self.session.simulated(), "user")
            left -= 1
            said = self._reply(person=False) if self.session.solved is None else None
            if said is None or said.stopped:
                break
        if said is not None and self.session.verdict():  # whoever got a solution has the last word
            self._show_all(self.session.simulated(), "user")
        self._ending()

    def style(self, named: str) -> None:
        """Open another conversation whose instructions state a style: ``/style``."""
        try:
            config = EnvConfig(stated_style=names(named))
        except UserError as error:
            self.say(f"There is no such style: {error}.")
            return
        self._own_style = config.stated_style
        if self.env is not None:
            self.env.config = replace(self.env.config, stated_style=config.stated_style)
        self.say(f"Stated from now on: {', '.join(self._own_style) or 'no style'}.")
        self.reset("")

    def score(self, _: str) -> None:
        """Show what each turn of the agent was worth: ``/score``."""
        if not self.session.parts:
            self.say("The agent has not said anything yet.")
            return
        columns = list(dict.fromkeys(name for parts in self.session.parts for name in parts))
        table = Table("turn", *columns, "sum", box=None)
        for turn, parts in enumerate(self.session.parts, 1):
            cells = [f"{parts.get(name, 0.0) + 0.0:+.2f}" for name in columns]
            table.add_row(str(turn), *cells, f"{sum(parts.values()):+.2f}")
        self.console.print(table)
        self.say(f"Sum of all turns: {self.session.score:+.2f}")

    def _open(self) -> None:
        self.session = ChatSession(
            self.agent,
            self.env,
            seed=self.options.seed,
            number=self._count,
            temperature=self.options.temperature,
            rollout=self.options.rollout,
            lookups=self._own_lookups,
            stated_style=self._own_style,
        )
        self._count += 1
        self.talk, self.ratings = self.session.agent_conversation, RatingRecorder(self.about)
        if self.session.case is not None:
            self.say(f"Your card: {self.session.case.privileged['card']}")

    def _turn(self, text: str) -> None:
        """The person says something, the desk looks it up, the agent answers."""
        if self.session.unanswered:
            self.say(FULL)
            return
        if self.agent.batched is not None:
            template = self.agent.batched.template
            if len(template.reply(text)) - 1 > template.cuts.most:
                self.say(f"The agent reads only its first {template.cuts.most} tokens.")
        told = self.session.person(text)
        self._show_all(tuple(m for m in told if m.role != "user"))
        if self._reply() is not None:
            self.decide()

    def decide(self) -> None:
        """Close the case if the agent's last message does."""
        if self.session.decide():
            self._ending()

    def penalty(self, said: Reply) -> float:
        """The penalty of a message that was cut off."""
        return self.session.penalty(said)

    def _answer(self) -> Reply | None:
        """Let the agent speak; None if it has no room."""
        lead, context = label("assistant"), self.session.conversation

        def show(piece: str) -> None:
            nonlocal lead
            self.show(lead + Text(indented(readable(piece))), end="")
            lead = Text()

        try:
            said = self.session.answer(show)
        except ContextFull:
            self.say(FULL)
            return None
        self.show(lead + Text(" (stopped)" if said.stopped else "", "dim"))
        self.ratings.spoke(context, said)
        return said

    def _reply(self, person: bool = True) -> Reply | None:
        """Let the agent speak, after it has called the functions that it needs to."""
        said = self._answer()
        for _ in range(MOST_CALLS):
            served = self.session.serve(person) if said is not None and not said.stopped else ()
            self._show_all(served, "user")
            if not served or self.session.solved is not None:
                break
            said = self._answer()
        return said

    def _show_all(self, messages: Conversation, name: str = "") -> None:
        for message in messages:
            self.show(spoken(message, name if message.role == "user" else ""))

    def show(self, text: Text, end: str = "\n") -> None:
        """Print something as it is."""
        # A terminal gets whole words on its lines; a pipe, and what comes piecemeal, is left alone.
        piecemeal = not end or not self.console.is_terminal
        self.console.print(text, end=end, soft_wrap=piecemeal)

    def _ending(self) -> None:
        if self.session.solved is None or self.session.case is None:
            return
        verdict = "solved" if self.session.solved else "not solved"
        self.say(
            f"The case is closed: {verdict}, score {self.session.score:+.2f}. Right: "
            f"{self.session.case.solution}. /reset opens another."
        )

    def _transcripts(self) -> list[dict[str, Any]]:
        """Every conversation of this chat in which the agent has said something, masked."""
        if not self.session.parts:
            return self._earlier
        told = ("agent", "split", "seed", "temperature")
        about = {"env": self.env_id, **{name: getattr(self.options, name) for name in told}}
        row = self.session.to_json()
        for message in row["messages"]:
            message["content"] = self.about.mask(message["content"])
        return [*self._earlier, {**row, **about}]


COMMANDS: dict[str, tuple[Callable[[Chat, str], None], str, str]] = {
    "/help": (Chat.help, "/help", "this list"),
    "/reset": (Chat.reset, "/reset", "forget the conversation and take a new goal"),
    "/user": (
        Chat.user,
        "/user [N]",
        "let the simulated user take over, for N turns or to the end",
    ),
    "/style": (
        Chat.style,
        "/style [NAMES]",
        "take a new goal, and ask the agent for a style: brief or detailed, formal or friendly, "
        "plain or advanced, joined by commas; none if left out",
    ),
    **rating_commands.COMMANDS,
    "/score": (Chat.score, "/score", "what each turn of the agent's was worth, in named parts"),
    "/save": (
        Chat.save,
        "/save FILE",
        "write every conversation so far, as JSON lines that you alone can read, masked as ratings "
        "are",
    ),
}
