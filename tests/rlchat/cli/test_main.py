"""The command line's manners: a mistake is one sentence, a status, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from datasets import disable_progress_bars
from safetensors.torch import load_file, save_file

from rlchat.algorithms.config import PPOConfig
from rlchat.cli.chat import environment_of
from rlchat.cli.libraries import quiet
from rlchat.cli.main import VERBS, main, parse
from rlchat.cli.options import ChatOptions
from rlchat.cli.train import next_steps
from rlchat.errors import Notice
from rlchat.rollout.environment import EnvConfig
from rlchat.training.config import TrainConfig
from rlchat.training.run_folder import RunFolder

ROOT = Path(__file__).parents[3]
SMALL = (
    "--policy tiny --adapter.dtype float32 --adapter.device cpu --episodes 4 --ppo.minibatches 1 "
    "--ppo.critic-warmup 0 --rollout.rows 4 --rollout.max-new-tokens 4 --iterations 1 "
    "--evaluation 1 --warm-start.demonstrations 4 --warm-start.epochs 1"
)
Complain = Callable[..., str]


@pytest.fixture(autouse=True, scope="module")
def _no_bars() -> None:
    """What `cli.quiet` does by a variable that datasets reads once, before other tests came."""
    disable_progress_bars()


@pytest.fixture
def complain(capsys: pytest.CaptureFixture[str]) -> Complain:
    """Run a command that must fail, and give its one line on stderr."""

    def run(command: str, status: int = 2) -> str:
        capsys.readouterr()
        assert main(command.split()) == status
        complaint = capsys.readouterr().err
        assert complaint.startswith("rlchat: ") and complaint.count("\n") == 1, complaint
        return complaint.removeprefix("rlchat: ").removesuffix("\n")

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *SMALL.split(), "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it called ``run`` in the working folder."""
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "trian",
            "expected a verb out of train, sweep, *, models list, models fetch; "
            "got 'trian'; did you mean train?",
        ),
        ("train --episodes 0", "expected episodes of at least 1; got 0; rlchat train --help *"),
        ("train --ppo.learning-rate -1", "expected learning_rate above 0; got -1.0; *"),
        ("train --ppo.lambda-turn 2", "expected lambda_turn in [0, 1]; got 2.0; *"),
        ("train --warm-start.batch 0", "expected batch of at least 1; got 0; *"),
        ("train --adapter.rank 0", "expected rank of at least 1; got 0; *"),
        ("train --rollout.rows 0", "expected rows of at least 1; got 0; *"),
        ("train --env rlchat/Suport-v0", "*; got 'rlchat/Suport-v0'; did you mean rlchat/Supp*"),
        ("train --env no_module:Id", "expected an importable module before the colon; *"),
        ("train --env :Id", "expected module:Id, as in my_module:MyEnv-v0; got ':Id'"),
        ("train --env .here:Id", "expected module:Id, as in my_module:MyEnv-v0; got '.here:Id'"),
        ("train --seed -1", "expected seed of at least 0 and below 4294967296; got -1; *"),
        ("train --critic.loss-weight -1", "expected loss_weight of at least 0; got -1.0; *"),
        ("train --critic.learning-rate nan", "expected learning_rate above 0; got nan; *"),
        ("train --ppo.beta inf", "expected beta of at least 0; got inf; *"),
        ("train --rollout.cut-off-penalty -1", "expected cut_off_penalty of at least 0; got -1.*"),
        ("train --policy ~nobody/x", "expected a model (smollm2-135m, tiny), an existing folder *"),
        ("train --env CartPole-v1", "expected an environment with text observations; Cart*"),
        ("train --users nobody", "*expected users out of agenda, *; got 'nobody'"),
        ("train --policy no-such", "expected a model (smollm2-135m, tiny), an existing folder *"),
        ("train --policy tiny --adapter.device abc", "expected a device that is here, *'abc'"),
        ("train --policy tiny --run file/run", "expected *file*"),
        ("train --policy tiny --resume", "expected a run folder with a config.json; *"),
        ("sft --policy no-such", "expected a model (smollm2-135m, tiny), an existing folder *"),
        (
            "sft --policy tiny --out file/x",
            "expected a place where a folder can be made*name anot*",
        ),
        ("sft --seed 4294967296", "expected seed of at least 0 and below 4294967296; got 42*"),
        ("sft --policy tiny --out .", "expected a new folder; . exists; name another with --out"),
        ("sft --data absent.jsonl", "expected a readable UTF-8 file *absent.jsonl*"),
        ("sft --data .", "expected a readable UTF-8 file *"),
        ("sft --data empty.jsonl", "expected conversations, one a line; empty.jsonl is empty"),
        ("sft --data broken.jsonl", "expected conversations; *1 × not JSON (line 1)"),
        ("sft --data shape.jsonl", 'expected *; shape.jsonl has none *a list "messages"*(line 1)'),
        ("sft --data latin.jsonl", "expected a readable UTF-8 file *latin.jsonl*"),
        ("eval exprt", "expected an agent: a run folder, *; got 'exprt'; did you mean expert?"),
        ("eval .", "expected an agent: a run folder, starter, *; got '.'"),
        ("eval base --policy no-such", "expected a model (smollm2-135m, tiny), *"),
        ("eval expert --env rlchat/Suport-v0", "*did you mean rlchat/Support-v0?"),
        ("eval expert --users nobody", "*expected users out of agenda, *; got 'nobody'"),
        ("eval expert --episodes 0", "expected episodes of at least 1; got 0*"),
        ("eval expert --temperature -1", "expected temperature of at least 0; got -1.0*"),
        ("eval expert --temperature nan", "expected temperature of at least 0; got nan*"),
        (
            "eval expert --json no/x.json",
            "expected a file in a folder that exists; got --json no/*",
        ),
        ("eval expert --until-width 1", "expected until_width from 0 to below 1; got 1.0; *"),
        ("eval expert --power -0.1", "expected power from 0 to below 1; got -0.1; *"),
        ("eval expert --processes 0", "expected processes of at least 1; got 0; *"),
        ("eval expert --trials 0", "expected trials of at least 1; got 0; *"),
        ("eval expert --users terse --each-users noisy", "expected --users or --each-users; got *"),
        ("eval expert --each-users nobody", "*expected users out of agenda, *; got 'nobody'"),
        ("eval expert random expert", "expected each agent *once; got 'expert' twice*"),
        ("eval expert --json .", "expected a file in a folder that exists; got --json ."),
        ("eval expert --episodes 1 --against nobody", "expected an agent: *; got 'nobody'*"),
        ("chat exprt", "expected an agent: *; got 'exprt'; did you mean expert?"),
        ("chat expert --temperature -1", "expected temperature of at least 0; got -1.0; *"),
        ("chat expert --users nobody", "*expected users out of agenda, *; got 'nobody'"),
        ("chat base --policy no-such", "expected a model (smollm2-135m, tiny), *"),
        ("play --episodes 0", "expected episodes of at least 1; got 0; rlchat play --help *"),
        ("play --env CartPole-v1", "expected an environment with text observations; *"),
        ("chat expert --person=", "expected person with a name in it; got ; *"),
        ("chat expert --region XX", "expected region of two capital letters, as in US, *'XX'*"),
        ("feedback export --out x.jsonl", "expected ratings; there is no *; rate replies in *"),
        ("feedback forget", "expected either a session or a person to forget; got neither; *"),
        ("feedback forget --person me", "expected ratings; there is no *; rate replies in *"),
        ("models fetch tinny", "expected a model (smollm2-135m, tiny), *: did you mean 'tiny'?"),
        ("feedback lern", "expected a verb out of *; got 'feedback'; did you mean feedback learn?"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: str, sentence: str, complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fnmatch import fnmatchcase

    monkeypatch.chdir(tmp_path)
    for name, content in {
        "file": b"",
        "empty.jsonl": b"\n\n",
        "broken.jsonl": b'{"messages": [',
        "shape.jsonl": b"{}\n",
        "latin.jsonl": b"caf\xe9\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    said = complain(command)
    assert fnmatchcase(said, sentence.replace("[", "[[]")), said
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [
        p for p in before if p.is_file()
    ]


@pytest.mark.parametrize("command", ["train --foo", "eval", "eval expert --split x", "envs more"])
def test_wrong_words_are_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(command.split())
    assert leaving.value.code == 2
    complaint = capsys.readouterr().err
    assert "--help" in complaint and "Traceback" not in complaint


def test_help_is_not_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"rlchat {verb}" in shown for verb in VERBS)
    for verb in VERBS:
        with pytest.raises(SystemExit) as leaving:
            main([*verb.split(), "--help"])
        assert leaving.value.code == 0
        assert f"usage: rlchat {verb}" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rlchat {metadata.version('rlchat')}\n"


@pytest.mark.parametrize("group", ["reward", "feedback", "models", "envs"])
def test_a_group_lists_its_verbs(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = [verb for verb in VERBS if verb.startswith(f"{group} ")]
    for words in ([group, "--help"], [group]):
        if group in VERBS:  # it is a verb as well
            continue
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert own and all(f"rlchat {verb}" in shown for verb in own)
        assert not [verb for verb in VERBS if f"rlchat {verb} " in shown and verb not in own]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_what_its_row_names(verb: str) -> None:
    assert is_dataclass(VERBS[verb].options_class())
    assert callable(VERBS[verb].function())


def test_the_list_of_verbs_waits_for_no_library() -> None:
    code = (
        "import sys; from rlchat.cli.main import main; main(['--help']); main(['--version']); "
        "print(sorted({'torch', 'numpy', 'gymnasium', 'tyro', 'datasets'} & set(sys.modules)))"
    )
    path = os.pathsep.join(str(ROOT / room) for room in ("envs", "reward_models", "."))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n[]\n")


def test_only_warnings_of_the_libraries_are_silenced() -> None:
    """A person's own module may warn them; Python would show these."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        quiet()
        for module in ("transformers.x", "torch.nn", "gymnasium", "rlchat.models.policy"):
            warnings.warn_explicit("of a library", UserWarning, "file.py", 1, module)
        for module in ("garden_desk", "torchlight", "my.torch"):
            warnings.warn_explicit(f"of {module}", UserWarning, "file.py", 1, module)
    assert [str(w.message) for w in shown] == ["of garden_desk", "of torchlight", "of my.torch"]


def test_what_is_done_otherwise_is_told_in_a_line() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        quiet()
        for _ in range(2):  # whoever warns sees to it that it is said once
            warnings.warn_explicit("so it is", Notice, "file.py", 1, "rlchat.inference.x")
    assert len(shown) == 2
    assert warnings.formatwarning("so it is", Notice, "file.py", 1) == "rlchat: so it is\n"
    assert "file.py" in warnings.formatwarning("so it is", UserWarning, "file.py", 1)


def test_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    shown = capsys.readouterr().out
    assert "rlchat/Support-v0" in shown and "absent-minded" in shown
    assert main(["models", "list"]) == 0
    assert "smollm2-135m" in capsys.readouterr().out
    assert main(["models", "fetch", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("tiny is in /")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    save_file(dict(list(tensors.items())[1:]), path)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda r: shutil.rmtree(r / "adapter"), "expected a run that has finished an iteration; "),
        (
            lambda r: truncate(r / "adapter/adapter_model.safetensors"),
            "expected whole weights in run/adapter, as its adapter_config.json describes them; ",
        ),
        (
            lambda r: (r / "adapter/adapter_model.safetensors").write_bytes(b""),
            "expected whole weights in run/adapter, as its adapter_config.json describes them; ",
        ),
        (
            lambda r: drop_a_tensor(r / "adapter/adapter_model.safetensors"),
            "expected whole weights in run/adapter, as its adapter_config.json describes them; ",
        ),
        (
            lambda r: rewrite(r / "adapter/adapter_config.json", r=2),
            "expected whole weights in run/adapter, as its adapter_config.json describes them; ",
        ),
        (
            lambda r: (r / "adapter/adapter_model.safetensors").unlink(),
            "expected an adapter in run/adapter; found none; ",
        ),
        (
            lambda r: (r / "adapter/adapter_config.json").unlink(),
            "expected a PEFT adapter in run/adapter; its adapter_config.json cannot be read; ",
        ),
        (
            lambda r: (r / "adapter/adapter_config.json").write_text("{"),
            "expected a PEFT adapter in run/adapter; its adapter_config.json cannot be read; ",
        ),
        (
            lambda r: (r / "adapter/adapter_config.json").write_text("[]"),
            "expected a PEFT adapter in run/adapter; its adapter_config.json cannot be read; ",
        ),
        (
            lambda r: rewrite(r / "adapter/adapter_config.json", peft_type="NO_SUCH"),
            "expected a PEFT adapter in run/adapter; its adapter_config.json cannot be read; ",
        ),
        (
            lambda r: rewrite(r / "adapter/rlchat_base.json", weights_sha256="0"),
            "expected the adapter in run/adapter on its own base, made here, recipe ",
        ),
        (
            lambda r: rewrite(r / "adapter/rlchat_base.json", spec="gone"),
            "expected a model (smollm2-135m, tiny), an existing folder or a hub id org/name, got",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["eval", "chat", "train --run other --policy", "sft --policy"])
def test_a_broken_run_folder(
    harm: Callable[[Path], object], sentence: str, verb: str, run: Path, complain: Complain
) -> None:
    harm(run)
    assert complain(f"{verb} run").startswith(sentence)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda r: (r / "config.json").unlink(), "expected a run folder with a config.json; run"),
        (lambda r: (r / "config.json").write_text("{"), "expected a run folder with a config.jso"),
        (lambda r: (r / "config.json").write_text("[]"), "expected a run folder with a config.js"),
        (lambda r: rewrite(r / "config.json", seed=7), "expected the settings of the run in run; "),
        (lambda r: (r / "config.json").write_text("{}"), "expected a run folder with a config.js"),
        (
            lambda r: truncate(r / "checkpoint/state.safetensors"),
            "expected a whole checkpoint in run/checkpoint to resume from; delete that folder, ",
        ),
        (
            lambda r: (r / "checkpoint/state.json").write_text("{"),
            "expected a whole checkpoint in run/checkpoint to resume from; delete that folder, ",
        ),
        (
            lambda r: (r / "checkpoint/state.json").write_text('{"iteration": 0}'),
            "expected a whole checkpoint in run/checkpoint to resume from; delete that folder, ",
        ),
        (
            lambda r: drop_a_tensor(r / "checkpoint/state.safetensors"),
            "expected a whole checkpoint in run/checkpoint to resume from; delete that folder, ",
        ),
        (
            lambda r: truncate(r / "warm-start/adapter_model.safetensors"),
            "expected whole weights in run/warm-start, as its adapter_config.json describes them",
        ),
    ],
)
def test_a_broken_run_is_not_resumed(
    harm: Callable[[Path], object], sentence: str, run: Path, complain: Complain
) -> None:
    harm(run)
    command = f"train {SMALL} --run run --resume".replace("--iterations 1", "--iterations 2")
    assert complain(command).startswith(sentence)


def test_a_run_is_not_overwritten(run: Path, complain: Complain) -> None:
    metrics = (run / "metrics.jsonl").read_text()
    assert complain(f"train {SMALL} --run run").startswith("expected a new run folder; run holds")
    assert (run / "metrics.jsonl").read_text() == metrics


def test_a_saved_adapter_keeps_its_shape(run: Path, complain: Complain) -> None:
    for command in ("eval run", "sft --policy run", f"train {SMALL} --run other --policy run"):
        said = complain(f"{command} --adapter.rank 8")
        assert said.startswith("expected the adapter of run/adapter as it is; got --adapter.rank 8")


def test_a_run_can_be_measured_and_talked_to(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rlchat.cli.chat.open_lines", lambda console, history: lambda who: "/quit")
    assert main(["chat", "run"]) == 0
    assert "You talk to run." in capsys.readouterr().out
    command = "eval run --episodes 1 --rollout.max-new-tokens 4 --json e.json"
    assert main(command.split()) == 0
    assert json.loads(Path("e.json").read_text())["episodes"] == 1


def rows(run: Path) -> list[dict[str, float]]:
    """Metrics without times and memory."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    timed = ("seconds", "tokens_per_second", "peak_memory")
    return [{k: v for k, v in json.loads(x).items() if not k.startswith(timed)} for x in lines]


def test_a_run_s_record_trains_the_same_and_more(run: Path) -> None:
    assert main(["train", "--config", str(run), "--run", "again"]) == 0
    adapters = [p / "adapter/adapter_model.safetensors" for p in (run, Path("again"))]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert rows(run) == rows(Path("again"))
    words = f"train --config {run} --run {run} --resume --iterations 2"
    assert main(words.split()) == 0
    assert [row["iteration"] for row in rows(run)] == [0, 1]


def test_what_to_do_next_are_commands_that_work(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((run / "config.json").read_text("utf-8"))
    config = replace(
        TrainConfig(run=run, episodes=4, ppo=PPOConfig(minibatches=1)),
        env=recorded["env"],
        iterations=1,
    )
    told = [line.partition(":")[2].split() for line in next_steps(RunFolder(run), config)]
    chat, measure, look, _, more = told
    assert look[1:] == ["report", "run"]
    assert chat[1:] == ["chat", "run"] and measure[1:] == ["eval", "run"]
    assert parse(TrainConfig, "train", more[2:]).iterations == 11


@pytest.mark.parametrize("verb", ["eval", "chat"])
def test_an_agent_meets_whom_its_run_was_trained_with(
    verb: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"env": "rlchat/Tutoring-v0", "users": "terse", "knowledge": "bm25"}
    rewrite(run / "config.json", **changes)
    if verb == "eval":
        words = "eval run --episodes 1 --rollout.max-new-tokens 4 --json e.json"
        for more, env, users in (
            ("", "Tutoring", ["terse"]),
            (" --env rlchat/Support-v0", "Support", []),
        ):
            assert main((words + more).split()) == 0
            found = json.loads(Path("e.json").read_text())
            assert (found["env"], found["users"]) == (f"rlchat/{env}-v0", users)
        return
    world = environment_of(ChatOptions("run"))
    assert world is not None and world.config == EnvConfig(
        "rlchat/Tutoring-v0", ("terse",), knowledge=("bm25",)
    )
    assert environment_of(ChatOptions("run", env="")) is None
    named = environment_of(ChatOptions("run", env="rlchat/Support-v0"))
    assert named is not None and named.config == EnvConfig()


@pytest.mark.parametrize(
    ("error", "sentence", "status"),
    [
        (OSError(errno.ENOLCK, "No locks available"), r"the system .* \(No locks available\)", 1),
        (OSError("read timed out\nat line 3"), r"the system .* \(read timed out\); try again", 1),
        (PermissionError(errno.EROFS, "Read-only file system", "x"), "expected to use x; Read", 2),
        (OSError(errno.ENOSPC, "No space left on device"), "expected room on the disk; No sp", 2),
        (MemoryError(), "expected more memory than there is", 1),
        (torch.OutOfMemoryError("CUDA out of memory"), "expected more memory than there is", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "expected more memory", 1),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    complain: Complain,
    error: Exception,
    sentence: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("rlchat.cli.play.run_play", refused)
    assert re.match(sentence, complain("play", status))


def test_an_error_of_the_code_is_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("rlchat.cli.play.run_play", wrong)
    with pytest.raises(KeyError):
        main(["play"])


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_a_result_is_written(
    complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlchat.files.os.fsync", full)
    said = complain(f"eval expert --episodes 1 --json {tmp_path}/x.json")
    assert said.startswith(f"expected room on the disk to write {tmp_path}/x.json, got a full disk")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "place",
    [
        "rlchat.files.os.fsync",
        "rlchat.models.adapter_io.save_file",
        "rlchat.training.run_folder.save_file",
    ],
)
def test_a_full_disk_while_training(
    place: str, complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, full)
    said = complain(f"train {SMALL} --run {tmp_path}/run")
    assert said.startswith(f"expected room on the disk to write {tmp_path}/run")
    whole(tmp_path)


def whole(folder: Path) -> None:
    """Assert that nothing in a folder is half-written."""
    for path in folder.rglob("*"):
        assert not path.name.startswith("."), path
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".jsonl":
            assert [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        elif path.suffix == ".safetensors":
            load_file(path)


PHASES = [
    "rlchat.models.loading.resolve",
    "rlchat.training.pipeline.demonstrate",
    "rlchat.training.pipeline.warm_start",
    "rlchat.models.adapter_io.save_file",
    "rlchat.training.loop.collect",
    "rlchat.training.loop.annotate",
    "rlchat.training.loop.update_policy",
    "rlchat.training.run_folder.transcript",
    "rlchat.training.run_folder.save_file",
    "rlchat.training.comparison.evaluate",
]


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_every_phase(
    phase: str, complain: Complain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one line and status 1; what is on the disk is whole, and the run can go on."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = f"train {SMALL} --run {tmp_path}/run"
    with monkeypatch.context() as patch:
        patch.setattr(phase, interrupted)
        assert complain(command, 1) == "stopped; --resume goes on with what is finished"
    whole(tmp_path)
    begun = (tmp_path / "run" / "config.json").is_file()
    assert main([*command.split(), *(["--resume"] if begun else [])]) == 0
    whole(tmp_path)


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        ("eval expert", "rlchat.evaluation.evaluate.play_episodes"),
        ("sft --policy tiny --out out", "rlchat.training.pipeline.warm_start"),
        ("chat expert", "rlchat.cli.chat.load_agent"),
        ("models fetch tiny", "rlchat.cli.models.catalog.fetch"),
    ],
)
def test_ctrl_c_elsewhere(
    command: str,
    phase: str,
    complain: Complain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(phase, interrupted)
    assert complain(command, 1) == "stopped"
    assert os.listdir() == []


def test_a_hub_model_without_a_network(complain: Complain, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", down)
    for command in ("train --policy no/such", "eval base --policy no/such", "sft --policy no/such"):
        assert complain(command) == (
            "expected a folder or a hub model called 'no/such', got neither ([Errno -2] Name or "
            "service not known): check the name and the network, or use one of smollm2-135m, tiny"
        )


@pytest.mark.parametrize(
    ("script", "verb"), [("train_ppo.py", "train"), ("chat.py", "chat"), ("evaluate.py", "eval")]
)
def test_the_scripts_are_the_verbs(script: str, verb: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: rlchat {verb} ")


@pytest.mark.long
def test_training_by_accelerate_launch(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    script = [str(ROOT / "scripts" / "train_ppo.py"), *SMALL.split(), "--run", "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loading libraries\nloading tiny\n")
    assert "Talk to it:     rlchat chat run" in done.stdout
    assert (tmp_path / "run" / "curve.png").is_file()


def test_chat_through_a_pipe(tmp_path: Path) -> None:
    """A script replies at once: no torch is loaded for it."""
    code = (
        "import sys; from rlchat.cli.main import main\n"
        "status = main(['chat', 'expert']); assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"hi \xff \xe4\xbd\xa0\n/quit\n",
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"   you  hi ? ?\n agent  " in done.stdout and done.stdout.endswith(b"Goodbye.\n")
    assert done.stderr == b""
