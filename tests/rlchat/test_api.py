"""The public API: what `import rlchat` offers, and what it costs."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

import rlchat
from rlchat_envs import Conversation

DOCUMENTED = [
    "rlchat",
    "rlchat.api",
    "rlchat.inference.load_agent",
    "rlchat.rollout.episodes",
    "rlchat.serving.session",
]


def fresh(code: str) -> str:
    """What a new Python process prints."""
    root = Path(rlchat.__file__).parent.parent
    places = [str(root), str(root / "envs"), str(root / "reward_models")]
    code = f"import sys; sys.path[:0] = {places!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    code = """
import time
began = time.process_time()
import rlchat
print(time.process_time() - began)
print(sorted({m.partition(".")[0] for m in sys.modules} & {"torch", "transformers", "numpy"}))
print(sorted(set(rlchat.__all__) - set(dir(rlchat))), "rlchat.training" in sys.modules)
"""
    seconds, heavy, missing = fresh(code).splitlines()
    assert float(seconds) < 0.3
    assert heavy == "[]" and missing == "[] False"


def test_a_folder_of_the_same_name_can_be_called_and_tells_of_its_function() -> None:
    """`rlchat.rollout` plays episodes, whichever modules of that folder were imported before."""
    code = """
import inspect, pydoc, rlchat
print(len(rlchat.rollout("expert", rlchat.make_env(), episodes=2)), rlchat.rollout.__name__)
print(*inspect.signature(rlchat.rollout).parameters)
print(pydoc.plain(pydoc.render_doc(rlchat.rollout)))
"""
    called, parameters, *told = fresh(code).splitlines()
    assert called == "2 rlchat.rollout"
    assert parameters == "agent env episodes seed temperature config on_episode"
    assert any(line.strip().startswith("rollout(agent: ") for line in told)
    assert any(line.strip().startswith("Let an agent talk to users") for line in told)
    import_module("rlchat.rollout.collect")
    assert len(rlchat.rollout("expert", rlchat.make_env(), episodes=2)) == 2


def test_every_name_is_there_and_documented() -> None:
    for name in rlchat.__all__:
        found = getattr(rlchat, name)
        assert name == "__version__" or inspect.getdoc(found), name
    assert rlchat.__version__ == metadata.version("rlchat")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        rlchat.trian  # noqa: B018  # type: ignore[attr-defined]


def test_checkers_see_the_names_that_are_there() -> None:
    """The imports for type checkers name the same objects as the table that is read at run time."""
    tree = ast.parse(Path(rlchat.__file__).read_text("utf-8"))
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("_"):
            for alias in node.names:
                seen[alias.asname or alias.name] = (node.module, alias.name)
    for name in set(rlchat.__all__) - {"__version__", "rollout"}:
        module, own = seen[name]
        assert getattr(import_module(module), own) is getattr(rlchat, name)
    assert set(rlchat.__all__) - {"__version__"} <= seen.keys()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_do_as_they_say(name: str) -> None:
    tests = doctest.testmod(import_module(name))
    assert tests.attempted and not tests.failed


def test_an_object_with_reply_is_an_agent() -> None:
    class Sorry:
        def reply(self, conversation: Conversation, privileged: object) -> str:
            return "Sorry."

    env = rlchat.make_env(split="dev", users=("terse",), knowledge=("bm25",))
    sorry = rlchat.evaluate(Sorry(), env, episodes=3)
    expert = rlchat.evaluate(rlchat.load_agent("expert"), env, episodes=3)
    gain = expert.minus(sorry)["success"]
    assert (gain.mean, gain.high) == (1.0, 1.0) and gain.low < 1.0
    assert sorry.to_json()["users"] == ["terse"] and sorry.to_json()["knowledge"] == ["bm25"]
    assert sorry.split == "dev" and rlchat.evaluate("expert", env.config, episodes=1).split == "dev"
    with pytest.raises(rlchat.UserError, match="expected results of the same users"):
        expert.minus(rlchat.evaluate("expert", env, episodes=2))


def test_trials_are_episodes_with_the_same_user() -> None:
    env = rlchat.make_env(split="dev")
    found = rlchat.evaluate("demonstrator", env, episodes=3, trials=2)
    seeds = [e.seed for e in found.episodes]
    assert len(seeds) == 6 and seeds[::2] == seeds[1::2] and len(set(seeds)) == 3
    assert found.trials == 2 and "pass^2" in found.metrics


def test_a_string_is_one_name() -> None:
    assert rlchat.make_env(users="terse").config.users == ("terse",)


def test_folders_may_be_strings(tmp_path: Path) -> None:
    assert rlchat.TrainConfig(run="runs/x").run == Path("runs/x")  # type: ignore[arg-type]
    assert rlchat.SFTConfig(out="runs/y").out == Path("runs/y")  # type: ignore[arg-type]
    with pytest.raises(rlchat.UserError, match=r"^(?!.*operand)"):
        rlchat.load_reward_model(str(tmp_path))


class Polite:
    """A user's own agent."""

    def reply(self, conversation: object, privileged: object) -> str:
        return "Good day."


@pytest.mark.parametrize("agent", ["expert", Polite()])
def test_a_session_takes_what_load_agent_takes(agent: object) -> None:
    env = rlchat.make_env("rlchat/Support-v0", split="dev")
    session = rlchat.ChatSession(agent, env)  # type: ignore[arg-type]
    assert "".join(session.reply("Hello"))
    assert [m.role for m in session.conversation][-1] == "assistant"
