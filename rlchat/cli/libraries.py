"""What libraries may say while a command runs, and how its warnings are shown."""

from __future__ import annotations

import logging
import os
import warnings

from rlchat.errors import Notice
from rlchat.files import cache_folder, has_home

# Libraries whose warnings are for whoever calls them, which is this package; torch lets them come
# from the line that called it. What a person's own module warns of is for them, and is shown.
_TALKATIVE = (
    *("accelerate", "bitsandbytes", "datasets", "gymnasium", "huggingface_hub", "peft", "sklearn"),
    *("tokenizers", "torch", "transformers", "trl", "mlflow", "tensorboard", "trackio", "wandb"),
    *("rlchat", "rlchat_envs", "rlchat_reward_models"),
)


def quiet() -> None:
    """Keep libraries from talking between our lines, and from forgetting what they prepared."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_TALKATIVE)})(\.|$)")
    warnings.filterwarnings("always", category=Notice)
    warnings.formatwarning = _in_a_line
    if not has_home():  # the hub's client would make a folder called ~ where it is
        os.environ.setdefault("HF_HOME", str(cache_folder() / "huggingface"))
    for name in ("transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)


_format_warning = warnings.formatwarning


def _in_a_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning as text: a notice of ours without the place in the code that gave it."""
    if issubclass(category, Notice):
        return f"rlchat: {message}\n"
    return _format_warning(message, category, filename, lineno, line)
