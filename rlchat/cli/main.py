"""The command line: one verb, one function; a person's mistake is one sentence and status 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, make_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rlchat.cli.libraries import quiet
from rlchat.cli.live import stopping
from rlchat.errors import RunError, UserError, failure_of_machine

if TYPE_CHECKING:  # each takes a tenth of a second
    from rich.console import Console
    from rich.table import Table

Options = TypeVar("Options")


@dataclass(frozen=True)
class Verb:
    """One verb: where its options and its function are, and what it does in a line.

    Both are found when the verb is used, so that others do not wait for what it imports; the
    options alone are enough for ``--help``.
    """

    options: str
    run: str
    about: str

    def options_class(self) -> type[Any]:
        """The dataclass of its options."""
        found: type[Any] = _named(self.options)
        return found

    def function(self) -> Callable[[Any, Console], object]:
        """The function that does the work, given options and a console."""
        found: Callable[[Any, Console], object] = _named(self.run)
        return found


def _named(place: str) -> Any:
    """Import what ``module:name`` stands for, with a module of this package."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"rlchat.{module}"), name)


VERBS = {
    "train": Verb(
        "training.config:TrainConfig",
        "cli.train:run_training",
        "fetch a model, warm-start it, train it by PPO, evaluate it",
    ),
    "sweep": Verb(
        "cli.analysis.sweep:SweepOptions",
        "cli.analysis.sweep:run_sweep",
        "train several seeds or a grid of settings, and compare them",
    ),
    "sft": Verb(
        "training.config:SFTConfig",
        "cli.train:run_sft",
        "only the warm start, from demonstrations or a file",
    ),
    "eval": Verb(
        "cli.options:EvalOptions",
        "cli.evaluation:run_evaluation",
        "measure agents against simulated users: one, or a matrix",
    ),
    "report": Verb(
        "cli.analysis.report:ReportOptions",
        "cli.analysis.report:run_report",
        "write what runs came to into one HTML file",
    ),
    "chat": Verb("cli.options:ChatOptions", "cli.chat:run_chat", "talk to an agent"),
    "serve": Verb(
        "cli.serving.serve:ServeOptions",
        "cli.serving.serve:run_serve",
        "serve agents to any client of OpenAI's API",
    ),
    "serve key": Verb(
        "cli.serving.serve:KeyOptions", "cli.serving.serve:run_key", "make an API key for it"
    ),
    "play": Verb(
        "cli.options:PlayOptions",
        "cli.play:run_play",
        "play the agent yourself, against a simulated user",
    ),
    "eval inspect": Verb(
        "cli.options:InspectOptions",
        "cli.evaluation:run_inspect",
        "write an evaluation as logs that inspect_ai's viewer opens",
    ),
    "judge": Verb(
        "cli.analysis.judge:JudgeOptions",
        "cli.analysis.judge:run_judge",
        "let a language model answer questions about an evaluation, and check it",
    ),
    "explain": Verb(
        "cli.explain.options:ExplainOptions",
        "cli.explain.episode:run_explain",
        "show an episode of a run turn by turn, and why the agent said what it did",
    ),
    "explain attention": Verb(
        "cli.explain.options:AttentionOptions",
        "cli.explain.attention:run_attention",
        "draw a model's attention over a sentence, with the formula and its numbers",
    ),
    "reward build": Verb(
        "cli.options:RewardBuildOptions",
        "cli.reward:run_build",
        "collect preferences: simulators, people's ratings, files",
    ),
    "reward train": Verb(
        "cli.options:RewardTrainOptions",
        "cli.reward:run_train",
        "train a reward model on preferences",
    ),
    "reward score": Verb(
        "cli.options:RewardScoreOptions",
        "cli.reward:run_score",
        "score the agent's replies in conversations",
    ),
    "reward report": Verb(
        "cli.options:RewardReportOptions",
        "cli.reward:run_report",
        "say how far a reward model can be trusted",
    ),
    "envs": Verb(
        "cli.envs:ListOptions", "cli.envs:run_list", "what environments and users there are"
    ),
    "envs new": Verb(
        "cli.envs:NewOptions",
        "cli.envs:run_new",
        "write a small scenario of your own, which trains as it stands",
    ),
    "envs users": Verb(
        "cli.envs:UsersOptions",
        "cli.envs:run_users",
        "measure how users talk, beside real conversations if you have any",
    ),
    "feedback stats": Verb(
        "cli.feedback:StatsOptions",
        "cli.feedback:run_stats",
        "how many ratings there are, by agent and version",
    ),
    "feedback export": Verb(
        "cli.feedback:ExportOptions", "cli.feedback:run_export", "write ratings in trl's formats"
    ),
    "feedback learn": Verb(
        "cli.options:LearnOptions",
        "cli.feedback:run_learn",
        "let a run learn from ratings, if that is safe",
    ),
    "feedback versions": Verb(
        "cli.options:VersionsOptions",
        "cli.feedback:run_versions",
        "list what a run was, and what it might have become",
    ),
    "feedback restore": Verb(
        "cli.options:RestoreOptions",
        "cli.feedback:run_restore",
        "let a run reply with one of its versions again",
    ),
    "feedback forget": Verb(
        "cli.feedback:ForgetOptions",
        "cli.feedback:run_forget",
        "delete a conversation or a person, to the last byte",
    ),
    "feedback ask": Verb(
        "cli.options:AskOptions", "cli.style:run_ask", "compare replies, the most informative first"
    ),
    "feedback style": Verb(
        "cli.options:StyleOptions", "cli.style:run_style", "say how a person likes to be spoken to"
    ),
    "models list": Verb(
        "cli.models:ListOptions", "cli.models:run_list", "what models and trained agents there are"
    ),
    "models fetch": Verb(
        "cli.models:FetchOptions", "cli.models:run_fetch", "bring a model onto this machine"
    ),
}
_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``rlchat VERB …``; give the exit status: 0 done, 1 failed, 2 wrong words or input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows a ?
            stream.reconfigure(errors="replace")
    from rich.console import Console

    console = Console()
    if not words or words[0] in _HELP:
        console.print(overview(VERBS))
        return 0
    if words == ["--version"]:
        from importlib import metadata

        console.print(f"rlchat {metadata.version('rlchat')}", highlight=False)
        return 0
    group = {verb for verb in VERBS if verb.startswith(f"{words[0]} ")}
    if group and words[0] not in VERBS and (len(words) == 1 or words[1] in _HELP):
        console.print(overview(sorted(group, key=list(VERBS).index)))
        return 0
    hint = "; --resume goes on with what is finished" if words[0] == "train" else ""
    if words[0] == "sweep" or (words[0] == "eval" and "--out" in words):
        hint = "; the same command goes on with what is finished"

    def work() -> None:
        name, rest = _verb(words)
        quiet()
        options = parse(VERBS[name].options_class(), name, rest)
        if name in ("train", "sweep") and os.environ.get("RANK", "0") == "0":
            # It takes seconds, in which there would be silence.
            console.print("loading libraries", highlight=False)
        VERBS[name].function()(options, console)

    if words[0] not in stopping.VERBS:
        return guarded(work, "rlchat", hint)
    return stopping.stoppable(lambda: guarded(work, "rlchat", hint))


def guarded(work: Callable[[], None], program: str, hint: str = "") -> int:
    """Do something; give the exit status, and tell what went wrong in one line.

    Args:
        work: is done.
        program: stands before the line.
        hint: what to tell somebody who stopped it.
    """
    from rich.console import Console

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
    except Exception as error:
        failure = failure_of_machine(error)
        if failure is None:
            raise
        return _complain(complaint, f"{program}: {failure.sentence}", failure.status)


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

    near = get_close_matches(" ".join(words[:2]), list(VERBS), n=1)
    near = near or get_close_matches(words[0], list(VERBS), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"expected a verb out of {', '.join(VERBS)}; got {words[0]!r}{hint}")


def overview(verbs: Iterable[str]) -> Table:
    """The verbs with a line each."""
    from rich.table import Table

    table = Table("verb", "what it does", title="rlchat", box=None)
    for verb in verbs:
        table.add_row(f"rlchat {verb}", VERBS[verb].about)
    table.caption = (
        "rlchat VERB --help explains a verb's options; --config FILE reads them from a file"
    )
    return table


def parse(options: type[Options], verb: str, words: Sequence[str]) -> Options:
    """Read a verb's options; tyro explains mistakes in words and exits with status 2.

    What a file after ``--config`` says are defaults, which the words change.

    Raises:
        UserError: the words were right, but a value is out of range or a file is wrong.
    """
    import tyro

    from rlchat.cli.config_file import config_places, default_options

    default = default_options(options, verb, config_places(words))
    told = _with_config(options, default)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            found: Options = tyro.cli(told, prog=f"rlchat {verb}", args=list(words)).options
        return found
    except (UserError, SystemExit) as leaving:
        # tyro puts what settings of a group refuse into a box of its own; ours is one sentence.
        cause: BaseException | None = leaving
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__context__
        if cause is not None:
            raise UserError(f"{cause}; rlchat {verb} --help explains it") from None
        sys.stderr.write(box.getvalue())
        raise


def _with_config(options: type[Options], default: Options) -> type[Any]:
    """A verb's options with ``--config`` beside them, so that its help lists it."""
    from tyro import conf

    about = (
        "File that options are read from: TOML with their names as here (ppo.beta = 0.05), a run "
        "folder, or its config.json; what the command line says wins."
    )
    own = Annotated[options, conf.arg(name="")]  # type: ignore[valid-type]  # no prefix
    file = Annotated[Path | None, conf.arg(help=about, metavar="FILE")]
    told = make_dataclass(
        "Told",
        [
            ("options", own, field(default_factory=lambda: default)),
            ("config", file, field(default=None)),
        ],
    )
    told.__doc__ = options.__doc__
    return told


if __name__ == "__main__":
    sys.exit(main())
