"""A chat template taken apart, or a sentence that says why it cannot be."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from rlchat.errors import UserError
from rlchat.models.templates.rendering import Rendering
from rlchat.models.templates.thoughts import NoThoughtsError


def taken_apart(
    tokenizer: PreTrainedTokenizerBase, thinking: bool
) -> tuple[Rendering, list[tuple[str, ...]]]:
    """A tokenizer's template as a rendering, and what it writes around messages.

    Raises:
        UserError: it cannot be appended to, or has no thoughts though they are wanted.
    """
    try:
        rendering = Rendering(tokenizer, thinking)
        return rendering, rendering.segments()
    except NoThoughtsError as error:
        raise UserError(
            "expected a model whose chat template has thoughts; this model's has none; leave "
            "--rollout.thinking at off, or choose another model"
        ) from error
    except Exception as error:  # a template is somebody's program and may raise anything
        raise UserError(
            "expected a chat template in which messages follow one another unchanged; this "
            "model's differs; choose another model"
        ) from error
