"""Every baseline and the starter, in every scenario, with every family of users.

    make matrix

Success on the test side, every agent with the same users; written into docs/start/results.md. What
is finished is kept in ``--out``, so that the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from pages import put
from rich.console import Console

from rlchat.cli.evaluation import column_of
from rlchat.cli.libraries import quiet
from rlchat.cli.live.progress import Progress
from rlchat.cli.main import guarded
from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.evaluation.matrix import MatrixConfig, evaluate_matrix, with_users
from rlchat.evaluation.summary import with_interval
from rlchat.rollout.environment import EnvConfig
from rlchat.settings import names
from rlchat_envs.users.personas import FAMILIES

AGENTS = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph", "starter")
WORLDS = (
    *("Support", "SupportHard", "Tutoring", "Medical", "Finance", "FinanceFacts"),
    *("GuessNumber", "TwentyQuestions"),
)
PAGE = Path(__file__).parent.parent / "docs/start/results.md"
BEGIN, END = "<!-- made by make matrix -->", "<!-- end of the matrix -->"


@dataclass(frozen=True)
class MatrixOptions:
    """Measure all agents in all scenarios with all users, and write the table into the docs."""

    out: Path = Path("runs/matrix")
    """Episodes are kept there."""
    episodes: int = 64
    """Test users of each family in each scenario; 64 conversations fill a batch of the starter."""
    processes: int = 1
    """Processes that play side by side."""
    agents: str = ",".join(AGENTS)
    """Agents, comma-separated."""
    worlds: str = ",".join(WORLDS)
    """Scenarios, comma-separated."""
    families: str = ",".join(("default", *FAMILIES))
    """Families of users, comma-separated; default stands for the usual ones."""
    write: bool = True
    """Write the table into docs/start/results.md."""


def main(options: MatrixOptions) -> None:
    """Play what is missing, and print and write the table."""
    console = Console()
    agents, worlds, families = (
        names(x) for x in (options.agents, options.worlds, options.families)
    )
    if not (agents and worlds and families):
        raise UserError("expected agents, worlds and families; got none of one of them")
    envs = [EnvConfig(f"rlchat/{world}-v0") for world in worlds]
    columns = with_users(envs, [() if f == "default" else (f,) for f in families])
    config = MatrixConfig(
        EvalConfig("test", options.episodes), processes=options.processes, out=options.out
    )
    with Progress(console) as progress:
        found = evaluate_matrix(agents, columns, config, progress)
    text = table(found, columns, agents, options.episodes)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if options.write:
        put(PAGE, text, BEGIN, END)


def table(
    found: Sequence[Sequence[EvaluationResult | None]],
    columns: Sequence[EnvConfig],
    agents: Sequence[str],
    episodes: int,
) -> str:
    """A line for each scenario and family, a column an agent: success with its interval."""
    lines = [
        f"Success of {episodes} users of the test side in each cell, the same for every agent,",
        "greedily; 95% intervals (Wilson). The starter was trained in Support-v0 alone.",
        "",
        f"| scenario, users | {' | '.join(agents)} |",
        f"|{'---|' * (len(agents) + 1)}",
    ]
    for env, row in zip(columns, found, strict=True):
        cells = ["–" if r is None else with_interval(r.metrics["success"], "{:.0%}") for r in row]
        lines.append(f"| {column_of(env).removeprefix('rlchat/')} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    quiet()
    hint = "; the same command goes on with what is finished"
    sys.exit(guarded(lambda: main(tyro.cli(MatrixOptions)), "matrix", hint))
