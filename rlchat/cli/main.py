"""The command line: one verb, one function; a person's mistake is one sentence and status 2."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

from rlchat.cli.terminal import say
from rlchat.errors import RunError, UserError

Options = TypeVar("Options")


@dataclass(frozen=True)
class ListOptions:
    """Say what there is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``rlchat VERB …``; give the exit status: 0 done, 1 failed, 2 wrong words or input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows a ?
            stream.reconfigure(errors="replace")
    console = Console()
    if not words or words[0] in ("-h", "--help"):
        console.print(overview())
        return 0
    hint = "; --resume goes on with what is finished" if words[0] == "train" else ""

    def work() -> None:
        verb, rest = _verb(words)
        quiet()
        VERBS[verb][0](rest, console)

    return guarded(work, "rlchat", hint)


def guarded(work: Callable[[], None], program: str, hint: str = "") -> int:
    """Do something; give the exit status, and tell what went wrong in one line.

    Args:
        work: is done.
        program: stands before the line.
        hint: what to tell somebody who stopped it.
    """
    complaint = Console(stderr=True)
    try:
        work()
        return 0
    except UserError as error:
        return _complain(complaint, f"{program}: {error}", 2)
    except RunError as error:
        return _complain(complaint, f"{program}: {error}", 1)
    except KeyboardInterrupt:
        return _complain(complaint, f"{program}: stopped{hint}", 1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not full:
            raise  # not about a place that the user chose
        what = (
            f"expected to use {error.filename}" if error.filename else "expected room on the disk"
        )
        remedy = "make room or name another place" if full else "name another place or file"
        return _complain(complaint, f"{program}: {what}; {error.strerror}; {remedy}", 2)


def _complain(console: Console, line: str, status: int) -> int:
    console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    return status


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """Split the verb, of one word or two, from its options."""
    for count in (2, 1):
        verb = " ".join(words[:count])
        if verb in VERBS:
            return verb, words[count:]
    from difflib import get_close_matches

    near = get_close_matches(words[0], list(VERBS), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"expected a verb out of {', '.join(VERBS)}; got {words[0]!r}{hint}")


def overview() -> Table:
    """The verbs with a line each."""
    table = Table("verb", "what it does", title="rlchat", box=None)
    for verb, (_, line) in VERBS.items():
        table.add_row(f"rlchat {verb}", line)
    table.caption = "rlchat VERB --help explains a verb's options"
    return table


def parse(options: type[Options], verb: str, words: Sequence[str]) -> Options:
    """Read a verb's options; tyro explains mistakes in words and exits with status 2.

    Raises:
        UserError: the words were right, but a value is out of range.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(options, prog=f"rlchat {verb}", args=list(words))
    except SystemExit as leaving:
        # tyro puts what settings refuse into a box of its own; ours is one sentence.
        cause: BaseException | None = leaving
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__context__
        if cause is not None:
            raise UserError(f"{cause}; rlchat {verb} --help explains it") from None
        sys.stderr.write(box.getvalue())
        raise


def quiet() -> None:
    """Keep libraries from talking between our lines, and from forgetting what they prepared."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    for name in ("transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)


def train(words: Sequence[str], console: Console) -> None:
    """Verb ``train``."""
    if not {"-h", "--help"} & set(words) and os.environ.get("RANK", "0") == "0":
        say(console, "loading libraries")  # for seconds, in which there would be silence
    from rlchat.training.config import TrainConfig

    config = parse(TrainConfig, "train", words)
    from rlchat.cli.train import run_training

    run_training(config, console)


def sft(words: Sequence[str], console: Console) -> None:
    """Verb ``sft``."""
    from rlchat.cli.train import SftOptions, run_sft

    run_sft(parse(SftOptions, "sft", words), console)


def evaluate(words: Sequence[str], console: Console) -> None:
    """Verb ``eval``."""
    from rlchat.cli.train import EvalOptions, run_evaluation

    run_evaluation(parse(EvalOptions, "eval", words), console)


def chat(words: Sequence[str], console: Console) -> None:
    """Verb ``chat``."""
    from rlchat.cli.chat import ChatOptions, run_chat

    run_chat(parse(ChatOptions, "chat", words), console)


def play(words: Sequence[str], console: Console) -> None:
    """Verb ``play``."""
    from rlchat.cli.play import PlayOptions, run_play

    run_play(parse(PlayOptions, "play", words), console)


def envs(words: Sequence[str], console: Console) -> None:
    """Verb ``envs``."""
    parse(ListOptions, "envs", words)
    import gymnasium as gym

    import rlchat_envs
    from rlchat_envs.users import FAMILIES, PERSONAS

    table = Table("environment", "what it is", "agents")
    for name in sorted(i for i in gym.registry if i.startswith("rlchat/")):
        env = gym.make(name).unwrapped
        assert isinstance(env, rlchat_envs.DialogueEnv)
        about = (env.scenario.__doc__ or "").splitlines()[0]
        table.add_row(name, about, ", ".join([*env.scenario.agents, "retrieval"]))
    console.print(table)
    people = Table("users", "what they do", "train", "dev", "test")
    for family, about in FAMILIES.items():
        names = {p.split: p.name for p in PERSONAS.values() if p.family == family}
        people.add_row(family, about, *(names[split] for split in rlchat_envs.SPLITS))
    console.print(people)
    console.print(f"sides: {', '.join(rlchat_envs.SPLITS)}", highlight=False)


def envs_new(words: Sequence[str], console: Console) -> None:
    """Verb ``envs new``."""
    from rlchat.cli.envs import NewOptions, run_new

    run_new(parse(NewOptions, "envs new", words), console)


def envs_users(words: Sequence[str], console: Console) -> None:
    """Verb ``envs users``."""
    from rlchat.cli.envs import UsersOptions, run_users

    run_users(parse(UsersOptions, "envs users", words), console)


def reward_build(words: Sequence[str], console: Console) -> None:
    """Verb ``reward build``."""
    from rlchat.cli.reward import BuildOptions, run_build

    run_build(parse(BuildOptions, "reward build", words), console)


def reward_train(words: Sequence[str], console: Console) -> None:
    """Verb ``reward train``."""
    from rlchat.cli.reward import TrainOptions, run_train

    run_train(parse(TrainOptions, "reward train", words), console)


def reward_score(words: Sequence[str], console: Console) -> None:
    """Verb ``reward score``."""
    from rlchat.cli.reward import ScoreOptions, run_score

    run_score(parse(ScoreOptions, "reward score", words), console)


def reward_report(words: Sequence[str], console: Console) -> None:
    """Verb ``reward report``."""
    from rlchat.cli.reward import ReportOptions, run_report

    run_report(parse(ReportOptions, "reward report", words), console)


def feedback_stats(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback stats``."""
    from rlchat.cli.feedback import StatsOptions, run_stats

    parse(StatsOptions, "feedback stats", words)
    run_stats(console)


def feedback_export(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback export``."""
    from rlchat.cli.feedback import ExportOptions, run_export

    run_export(parse(ExportOptions, "feedback export", words), console)


def feedback_learn(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback learn``."""
    from rlchat.cli.feedback import LearnOptions, run_learn

    run_learn(parse(LearnOptions, "feedback learn", words), console)


def feedback_versions(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback versions``."""
    from rlchat.cli.feedback import VersionsOptions, run_versions

    run_versions(parse(VersionsOptions, "feedback versions", words), console)


def feedback_restore(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback restore``."""
    from rlchat.cli.feedback import RestoreOptions, run_restore

    run_restore(parse(RestoreOptions, "feedback restore", words), console)


def feedback_forget(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback forget``."""
    from rlchat.cli.feedback import ForgetOptions, run_forget

    run_forget(parse(ForgetOptions, "feedback forget", words), console)


def feedback_ask(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback ask``."""
    from rlchat.cli.style import AskOptions, run_ask

    run_ask(parse(AskOptions, "feedback ask", words), console)


def feedback_style(words: Sequence[str], console: Console) -> None:
    """Verb ``feedback style``."""
    from rlchat.cli.style import StyleOptions, run_style

    run_style(parse(StyleOptions, "feedback style", words), console)


def models_list(words: Sequence[str], console: Console) -> None:
    """Verb ``models list``."""
    parse(ListOptions, "models list", words)
    from rlchat.models import starters
    from rlchat.models.catalog import catalog

    table = Table("name", "what it is", "licence", "MB", "here")
    for model, here in catalog.list_models():
        table.add_row(
            model.name, model.about, model.licence, str(model.megabytes), "yes" if here else "no"
        )
    console.print(table)
    agents = Table("trained agent", "what it is", "MB", "solved of unseen users, 95%")
    solved = starters.read_card()["success"]
    for starter in starters.STARTERS.values():
        rate = "{mean:.0%} ({low:.0%} … {high:.0%})".format(**solved[starter.name])
        agents.add_row(starter.name, starter.about, f"{starter.megabytes:.1f}", rate)
    console.print(agents)


@dataclass(frozen=True)
class FetchOptions:
    """Bring a model onto this machine."""

    name: Annotated[str, tyro.conf.Positional] = "smollm2-135m"
    """A name of `rlchat models list`."""


def models_fetch(words: Sequence[str], console: Console) -> None:
    """Verb ``models fetch``."""
    options = parse(FetchOptions, "models fetch", words)
    from rlchat.models.catalog import catalog

    folder = catalog.fetch(options.name, lambda line: console.print(line, markup=False))
    console.print(f"{options.name} is in {folder}", highlight=False, markup=False, soft_wrap=True)


VERBS: dict[str, tuple[Callable[[Sequence[str], Console], None], str]] = {
    "train": (train, "fetch a model, warm-start it, train it by PPO, evaluate it"),
    "sft": (sft, "only the warm start, from demonstrations or from a file"),
    "eval": (evaluate, "measure an agent against simulated users"),
    "chat": (chat, "talk to an agent"),
    "play": (play, "play the agent yourself, against a simulated user"),
    "reward build": (reward_build, "collect preferences: simulators, people's ratings, files"),
    "reward train": (reward_train, "train a reward model on preferences"),
    "reward score": (reward_score, "score the agent's replies in conversations"),
    "reward report": (reward_report, "say how far a reward model can be trusted"),
    "envs": (envs, "what environments and users there are"),
    "envs new": (envs_new, "write a small scenario of your own, which trains as it stands"),
    "envs users": (envs_users, "measure how users talk, beside real conversations if you have any"),
    "feedback stats": (feedback_stats, "how many ratings there are, by agent and version"),
    "feedback export": (feedback_export, "write ratings in trl's formats"),
    "feedback learn": (feedback_learn, "let a run learn from ratings, if that does no harm"),
    "feedback versions": (feedback_versions, "list what a run was, and what it might have become"),
    "feedback restore": (feedback_restore, "let a run speak with one of its versions again"),
    "feedback forget": (feedback_forget, "delete a conversation or a person, to the last byte"),
    "feedback ask": (feedback_ask, "compare replies, the most informative first"),
    "feedback style": (feedback_style, "say how a person likes to be spoken to"),
    "models list": (models_list, "what models and trained agents there are"),
    "models fetch": (models_fetch, "bring a model onto this machine"),
}


if __name__ == "__main__":
    sys.exit(main())
