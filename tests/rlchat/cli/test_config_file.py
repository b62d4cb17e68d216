"""Options from files: whatever a dataclass can hold, and the command line's words win."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from rlchat.cli.main import VERBS, main, parse
from rlchat.cli.options import ChatOptions, EvalOptions
from rlchat.errors import UserError
from rlchat.rewards.config import RewardConfig
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder


@dataclass(frozen=True)
class Inner:
    """Options of a group."""

    rate: float = 0.5
    """A rate that stands for any number."""
    limit: float | None = None
    """A limit that may be left out."""


@dataclass(frozen=True)
class Every:
    """One option of every kind."""

    agent: Annotated[str, tyro.conf.Positional]
    """An option that has to be given."""
    text: str = "usual"
    """A text that may be empty."""
    count: int = 1
    """A whole number that may be negative."""
    keep: bool = True
    """A switch that is on."""
    drop: bool = False
    """A switch that is off."""
    kind: Literal["one", "two"] = "one"
    """A choice of two."""
    place: Path | None = None
    """A path that may be left out."""
    users: str | None = None
    """A text that may be left out."""
    files: tuple[Path, ...] = ()
    """Paths, as many as there are."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        """Refuse what is right only together."""
        if self.count > 1 and self.text == "usual":
            raise UserError(f"expected another text with a count of {self.count}; got usual")


FULL = """
agent = "-odd"
text = ""
count = -3
keep = false
drop = true
kind = "two"
place = "a b/c"
users = ""
files = ["x", "-y"]
inner.rate = -1e-05
inner.limit = 2
"""
READ = Every(
    "-odd", "", -3, False, True, "two", Path("a b/c"), "", (Path("x"), Path("-y")), Inner(-1e-5, 2)
)


def told(path: Path, text: str, *words: str) -> Every:
    path.write_text(text, "utf-8")
    return parse(Every, "try", ["--config", str(path), *words])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "options.toml"


def test_a_file_says_what_every_kind_of_option_is(path: Path) -> None:
    found = told(path, FULL)
    assert found == READ
    assert isinstance(found.inner.limit, float) and isinstance(found.place, Path)


def test_the_command_line_wins(path: Path) -> None:
    words = (
        "me --text= --count 1 --keep --no-drop --kind one --place None --users None --files "
        "--inner.rate -2.5 --inner.limit None"
    )
    assert told(path, FULL, *words.split()) == Every("me", "", inner=Inner(-2.5))
    assert told(path, FULL, "--text=-x", "--files", "z").text == "-x"


def test_what_no_file_says_is_the_default(path: Path) -> None:
    assert told(path, "", "me") == Every("me")
    assert told(path, 'agent = "me"\n[inner]\nrate = 1\n') == Every("me", inner=Inner(1.0))


def test_a_table_and_hyphens_are_the_same_options(path: Path) -> None:
    path.write_text('[ppo]\nlearning-rate = 0.5\nkl_target = 0.1\n[adapter]\ndtype = "float32"\n')
    found = parse(TrainConfig, "train", [f"--config={path}"])
    assert (found.ppo.learning_rate, found.ppo.kl_target) == (0.5, 0.1)
    assert found.adapter.dtype == "float32"


def test_json_says_none_and_so_does_the_word(tmp_path: Path, path: Path) -> None:
    place = tmp_path / "options.json"
    kept = {"agent": "me", "users": None, "place": None, "inner": {"limit": None}}
    place.write_text(json.dumps(kept))
    assert parse(Every, "try", ["--config", str(place)]) == Every("me")
    assert told(path, 'agent = "me"\nusers = "None"\nplace = "None"\n') == Every("me")


def test_later_files_win(path: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.toml"
    more.write_text('text = "more"\ninner.rate = 3.0\n')
    assert told(path, FULL, "--config", str(more)).text == "more"
    assert told(path, FULL, "--config", str(more)).inner == Inner(3.0, 2.0)


def test_only_the_whole_is_checked(path: Path) -> None:
    """A file may hold what is right only with the words."""
    assert told(path, 'agent = "me"\ncount = 2\n', "--text", "x").count == 2
    with pytest.raises(UserError, match="expected another text with a count of 2; got usual; rlch"):
        told(path, 'agent = "me"\ncount = 2\n')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "cuont = 1",
            "expected options of rlchat try in *; got cuont; did you mean count? rlchat*",
        ),
        ("zzz = 1", "expected options of rlchat try in *; got zzz; rlchat try --help lists them"),
        ("inner.rat = 1", "*; got inner.rat; did you mean inner.rate? rlchat try --help lists *"),
        ("inner = 1", "expected a table of options for inner in *; got 1; rlchat try --help *"),
        ("text = 1", "expected text in quotes for text in *; got 1; *"),
        ("count = 1.5", "expected a whole number for count in *; got 1.5; *"),
        ("count = true", "expected a whole number for count in *; got true; *"),
        ("count = {}", "expected a whole number for count in *; got {}; *"),
        ('inner.rate = "1"', "expected a number for inner.rate in *; got '1'; *"),
        ('keep = "yes"', "expected true or false for keep in *; got 'yes'; *"),
        ('kind = "three"', "expected one of one, two for kind in *; got 'three'; *"),
        ("place = 3", "expected a path in quotes for place in *; got 3; *"),
        ('files = "x"', "expected a list for files in *; got 'x'; *"),
        ("files = [1]", "expected a path in quotes for files in *; got 1; *"),
        ("text = ", "expected a TOML file, a run folder or its config.json after --config; got *"),
        ("\xff", "expected a TOML file, a run folder or its config.json after --config; got *"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(text: str, sentence: str, path: Path) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as mistake:
        parse(Every, "try", ["me", "--config", str(path)])
    said = str(mistake.value)
    assert fnmatchcase(said, sentence.replace("[", "[[]")) and "\n" not in said, said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(
            UserError, match=r"after --config; got .* \(No such file or directory\)"
        ):
            parse(Every, "try", ["me", "--config", str(place)])


def test_a_run_s_record_is_given_back(tmp_path: Path) -> None:
    """Whatever options a training had, its record says them all."""
    words = (
        "--run runs/one --env rlchat/Medical-v0 --users terse,noisy --ppo.gamma-turn 0.5 "
        "--critic.no-privileged --reward.cost-limit 0.1 --seed 7 --adapter.dtype float32 --resume"
    )
    config = parse(TrainConfig, "train", words.split())
    run = RunFolder(tmp_path / "one")
    run.write_config(config, {"dtype": "float32"})
    for place in (run.folder, run.folder / "config.json"):
        again = parse(TrainConfig, "train", ["--config", str(place), "--resume"])
        assert again == config
        other = parse(TrainConfig, "train", ["--config", str(place), "--run", "runs/again"])
        assert asdict(other) == {**asdict(config), "run": Path("runs/again"), "resume": False}


def test_a_record_of_before_may_have_earlier_names(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "one")
    run.write_config(TrainConfig(), {"dtype": "float32"})
    kept = json.loads((run.folder / "config.json").read_text("utf-8"))
    kept["reward"]["span"] = "turn"
    del kept["reward"]["granularity"], kept["watch"]
    (run.folder / "config.json").write_text(json.dumps(kept))
    found = parse(TrainConfig, "train", ["--config", str(run.folder)])
    assert found == replace(TrainConfig(), reward=RewardConfig(granularity="turn"))


def test_other_verbs_take_from_a_record_what_is_not_about_the_training(tmp_path: Path) -> None:
    words = "--env rlchat/Medical-v0 --episodes 8 --rollout.max-new-tokens 9 --adapter.rank 4"
    run = RunFolder(tmp_path / "one")
    run.write_config(parse(TrainConfig, "train", words.split()), {"dtype": "float32"})
    found = parse(EvalOptions, "eval", ["expert", "--config", str(run.folder)])
    assert (found.env, found.rollout.max_new_tokens) == ("rlchat/Medical-v0", 9)
    assert (found.episodes, found.adapter.rank) == (100, 16)
    talk = parse(ChatOptions, "chat", ["expert", "--config", str(run.folder)])
    assert (talk.env, talk.users, talk.seed) == ("rlchat/Medical-v0", "", 0)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_s_help_lists_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*verb.split(), "--help"])
    assert leaving.value.code == 0
    assert "--config FILE" in capsys.readouterr().out


def test_a_verb_reads_its_file(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text('agent = "expert"\nepisodes = 2\nenv = "rlchat/GuessNumber-v0"\n')
    assert main(["eval", "--config", str(path)]) == 0
    assert "rlchat/GuessNumber-v0" in capsys.readouterr().out
    assert main(["eval", "--config", str(path), "--episodes", "0"]) == 2
    assert "expected episodes of at least 1; got 0" in capsys.readouterr().err
