import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    rooms = [str(ROOT / room) for room in ("envs", "reward_models", ".")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(rooms)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_text_world_loads_no_neural_network() -> None:
    done = run(
        sys.executable,
        "-c",
        "import sys, rlchat_envs; print(sorted({'torch', 'transformers'} & set(sys.modules)))",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_imports_run_one_way() -> None:
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
