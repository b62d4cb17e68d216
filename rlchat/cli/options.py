"""Options of verbs whose work needs torch: to read and explain them does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlchat.errors import UserError
from rlchat.evaluation.config import EvalConfig
from rlchat.feedback.pii import check_region
from rlchat.models.config import AdapterConfig
from rlchat.rewards.config import PreferenceConfig, RewardModelConfig
from rlchat.rewards.rubric.config import JudgeConfig, check_both
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_options import AgentEnvOptions, EnvOptions
from rlchat.settings import expect
from rlchat.training.config import FeedbackUpdateConfig


@dataclass(frozen=True, kw_only=True)
class EvalOptions(EvalConfig, AgentEnvOptions):
    """Measure agents against simulated users, with intervals: one agent, or a matrix.

    With several agents, environments (--env A,B) or --each-users, every agent meets the same users
    in every environment. Try: rlchat eval expert random --each-users default terse --against
    demonstrator --out runs/matrix
    """

    agent: Annotated[str, tyro.conf.Positional]
    """Agent to measure: a run or adapter folder, starter or starter:warm-start, openai:MODEL@URL,
    or one of base, expert, demonstrator, random, retrieval, knowledge-graph."""
    more: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Further agents, named in the same way; environment and users are those of the first unless
    options name others."""
    against: str = ""
    """Another agent, named in the same way, for paired differences on the same users, with p-values
    that hold for all of them together (Holm); if empty, none."""
    each_users: tuple[str, ...] = ()
    """Families of users, each in a column of its own: a family, several joined by commas, or
    default for the usual ones; in the place of --users, which are in one column."""
    each_style: tuple[str, ...] = ()
    """Stated styles, each in a column of its own, on the same users: a style, several joined by
    commas, any, or none, with which all others are compared: how far each is followed, and what
    that costs in success. In the place of --stated-style."""
    until_width: float = 0.0
    """Stop where the 95% interval of success of every agent is as narrow as this, from its low to
    its high end, as in 0.1, and with --against that of every paired difference too; --episodes is
    then how many there are at most. With 0 all are played. The width is looked at after 50 users,
    and each time a quarter more: the intervals stay as good as those of as many episodes."""
    power: float = 0.0
    """A difference of success, as in 0.1: say how many episodes show it 8 times of 10, given how
    often the agents disagreed here. With 0 nothing is said."""
    processes: int = 1
    """Number of processes that play episodes side by side, with the same results as one; each loads
    its own agent."""
    out: Path | None = None
    """Folder that episodes are kept in; the same command goes on where it was stopped. Nothing is
    kept if left out."""
    policy: str = "smollm2-135m"
    """The model that the agent `base` stands for: a name of `rlchat models list`, a Hugging Face id
    or a folder."""
    json: Path | None = None
    """JSON file for the results, every episode included; none is written if left out."""
    rubric: str = ""
    """Questions about every episode that a judge answers: default, or a YAML file; none if
    empty."""
    judge: str = ""
    """Language model that answers the rubric's questions: a name of `rlchat models list`, a folder,
    a Hugging Face id, or openai:MODEL@URL."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    judging: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        super().__post_init__()
        check_both(self.rubric, self.judge)
        expect(self, "until_width", 0 <= self.until_width < 1, "from 0 to below 1")
        expect(self, "power", 0 <= self.power < 1, "from 0 to below 1")
        expect(self, "processes", self.processes >= 1, "of at least 1")
        if self.each_users and self.users is not None:
            raise UserError("expected --users or --each-users; got both; leave one out")
        if self.each_style and self.stated_style is not None:
            raise UserError("expected --stated-style or --each-style; got both; leave one out")
        for named in ([*self.agents, *self.each_users], self.each_style):
            if twice := next((name for name in named if named.count(name) > 1), None):
                raise UserError(f"expected each agent and column once; got {twice!r} twice")

    @property
    def agents(self) -> tuple[str, ...]:
        """All agents, the one that others are compared with last."""
        return (self.agent, *self.more, *((self.against,) if self.against else ()))


@dataclass(frozen=True)
class InspectOptions:
    """Write an evaluation as logs of Inspect (inspect_ai), a file for each agent and environment.

    Every episode is a sample with its messages and scores; metrics have their intervals. Open them
    with `inspect view --log-dir FOLDER`, or read them with inspect_ai.log.read_eval_log.
    """

    results: Annotated[Path, tyro.conf.Positional]
    """JSON file of an evaluation: what `rlchat eval AGENT --json FILE` wrote, or a run's
    evaluation.json."""
    out: Path = Path("logs")
    """Folder for the logs, which is made if it is not there."""


@dataclass(frozen=True)
class ChatOptions(AgentEnvOptions):
    """Talk to an agent: you are the user, and /help lists what else you can do.

    With --env '' you talk without an environment.
    """

    agent: Annotated[str, tyro.conf.Positional]
    """Agent to talk to: a run or adapter folder, starter or starter:warm-start, openai:MODEL@URL,
    or one of base, expert, demonstrator, random, retrieval, knowledge-graph."""
    split: Literal["train", "dev", "test"] = "dev"
    """Split of the environment that your goals come from."""
    seed: int = 0
    """Seed of goals and sampling."""
    temperature: float = 0.0
    """Sampling temperature of a language model: 0 is greedy; 1 is how agents are trained."""
    policy: str = "smollm2-135m"
    """The model that the agent `base` stands for: a name of `rlchat models list`, a Hugging Face id
    or a folder."""
    person: str = "me"
    """Your name, under which ratings are kept."""
    feedback: bool = True
    """Keep ratings, each with the conversation up to it; without a rating nothing is kept."""
    mask: bool = True
    """Before anything is kept or saved, put [e-mail], [phone], [card] or [account] in the place of
    e-mail addresses, phone numbers, payment cards, IBANs, @handles and what follows words such as
    "account number:". Names of people and postal addresses stay."""
    region: str = "US"
    """Country whose phone numbers are recognized without a country code: two capital letters."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "temperature", self.temperature >= 0, "of at least 0")
        expect(self, "person", bool(self.person.strip()), "with a name in it")
        check_region(self.region)


@dataclass(frozen=True)
class PlayOptions(EnvOptions):
    """Play the agent against the simulated user; Ctrl-D leaves."""

    split: Literal["train", "dev", "test"] = "dev"
    """Split of the environment that goals come from."""
    seed: int = 0
    """Seed of users and goals, which are those of rlchat eval with the same seed."""
    episodes: int = 1
    """Number of episodes, each with another user."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        expect(self, "episodes", self.episodes >= 1, "of at least 1")


@dataclass(frozen=True, kw_only=True)
class LearnOptions(FeedbackUpdateConfig):
    """Let a run learn from ratings; what does harm on held-out users is rolled back."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder. Its adapter is replaced only by an update that passes; every version is kept."""


@dataclass(frozen=True)
class VersionsOptions:
    """List the versions of a run: what training left, and every update from feedback."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder whose versions are listed."""


@dataclass(frozen=True)
class RestoreOptions:
    """Let a run reply with one of its versions again."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder whose adapter is replaced."""
    version: Annotated[int, tyro.conf.Positional]
    """Number of the version, as `rlchat feedback versions` lists it."""


@dataclass(frozen=True)
class StyleOptions:
    """Say how a person likes to be spoken to, from /ab and /edit."""

    person: str = "me"
    """Name of the person whose preferred style is shown."""


@dataclass(frozen=True)
class AskOptions:
    """Compare two replies, ten times: how do you like to be spoken to?"""

    person: str = "me"
    """Name of the person who is asked."""
    count: int = 10
    """Most questions that are asked."""
    dialogues: int = 20
    """Number of dialogues to ask about that are played in each of five environments."""
    seed: int = 0
    """Seed of the dialogues, which are others after every comparison that is kept."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("count", "dialogues"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")


@dataclass(frozen=True, kw_only=True)
class RewardBuildOptions(PreferenceConfig):
    """Collect preferences from simulators, people's ratings and files, in trl's format."""

    out: Path = Path("preferences.jsonl")
    """JSON lines file for the preferences, each with prompt, chosen, rejected, weight, source, turn
    and dialogue."""


@dataclass(frozen=True, kw_only=True)
class RewardTrainOptions(RewardModelConfig):
    """Train a reward model on preferences; held-out dialogues are never trained on."""

    preferences: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of `rlchat reward build`, or files and data sets of the hub in any of trl's formats."""
    out: Path = Path("runs/reward")
    """Folder for the reward model."""


@dataclass(frozen=True)
class RewardReportOptions:
    """Say how far a reward model can be trusted."""

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a reward model."""
    preferences: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of preferences; of those, held-out dialogues only, unless --all."""
    all: bool = False
    """Report on every dialogue: right for a file that the model was not trained on."""
    plot: Path | None = None
    """Write a calibration plot there (.png or .svg; needs matplotlib)."""
    json: Path | None = None
    """Write the numbers there."""
    errors: int = 3
    """Largest errors to show."""


@dataclass(frozen=True)
class RewardScoreOptions:
    """Score the replies in conversations from a file, or each as a whole, as the model learned."""

    model: Annotated[Path, tyro.conf.Positional]
    """Folder of a reward model."""
    data: Annotated[Path, tyro.conf.Positional]
    """Conversations: JSON lines, a JSON array, CSV, parquet, or a data set of the hub."""
    out: Path | None = None
    """Write the lines there with "scores" added; printed if it is not given."""
