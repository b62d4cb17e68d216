"""Language models that write for users or for the agent, on a server or on this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from rlchat.errors import RunError, UserError
from rlchat.files import at_home
from rlchat.inference.openai_client import Endpoint, EndpointError, find_endpoint
from rlchat.models.loading import load_base
from rlchat_envs import Conversation
from rlchat_envs.users.llm import Writer, WriterError
from rlchat_envs.users.llm_text import opens_thought, whole, without_thoughts

if TYPE_CHECKING:  # a list of what there is does not wait for torch
    import torch

    from rlchat.settings import DTypeName

TEMPERATURE = 0.7  # of users: as lively as they can be without rambling
MAX_NEW_TOKENS = 60  # of a user's message, unless somebody says otherwise
FAILURES = 8  # in a row after which a server is given up


@cache
def make_writer(spec: str, max_new_tokens: int = MAX_NEW_TOKENS) -> Writer:
    """A writer from its name on the command line, one for all who ask.

    Args:
        spec: ``MODEL@URL``, or a local model as `rlchat.models.fetching.catalog.resolve` takes it.
        max_new_tokens: of a message, thoughts included.

    Raises:
        UserError: no such model, or an address that cannot be asked.
    """
    if "@" in spec and not at_home(spec).is_dir():
        return EndpointWriter(find_endpoint(spec), max_new_tokens)
    return LocalWriter(spec, max_new_tokens=max_new_tokens)


class EndpointWriter:
    """A server's model that writes users' messages."""

    def __init__(self, endpoint: Endpoint, max_new_tokens: int = MAX_NEW_TOKENS):
        """Write with the model behind ``endpoint``, so many tokens a message at most."""
        self.endpoint, self.max_new_tokens = endpoint, max_new_tokens
        self._failures = 0  # in a row

    def __call__(self, conversation: Conversation, seed: int) -> str:
        """Say the next message; see `rlchat_envs.users.llm.Writer`.

        Raises:
            WriterError: the server has no usable answer this time.
            RunError: it has had none for a while: nobody should train on with other users.
        """
        try:
            said = self.endpoint.ask(conversation, seed, TEMPERATURE, self.max_new_tokens)
        except EndpointError as error:
            self._failures += 1
            if self._failures >= FAILURES:
                raise RunError(
                    f"the user's model failed {self._failures} times in a row: {error}"
                ) from error
            raise WriterError(str(error)) from error
        self._failures = 0
        return said


class LocalWriter:
    """A model on this machine that writes users' messages, one at a time."""

    def __init__(
        self,
        spec: str,
        device: str = "auto",
        dtype: DTypeName = "auto",
        max_new_tokens: int = MAX_NEW_TOKENS,
    ):
        """Load the language model that writes for users.

        Args:
            spec: see `rlchat.models.fetching.catalog.resolve`.
            device: where it computes.
            dtype: of its weights.
            max_new_tokens: of a message, thoughts included.

        Raises:
            UserError: no such model, or one whose context the messages would fill.
        """
        from transformers import GenerationConfig

        from rlchat.models.chat_template import ChatTemplate, stop_ids_of
        from rlchat.models.device import choose_device, choose_dtype

        place = choose_device(device)
        self._model: Any
        self._model, tokenizer, _ = load_base(spec, dtype=choose_dtype(dtype, place))
        self._model.to(place)
        self._template = ChatTemplate(tokenizer, stop_ids=stop_ids_of(self._model))
        self._model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(self._template.stop_ids),
            pad_token_id=self._template.end_of_turn,
        )
        most = getattr(self._model.config, "max_position_embeddings", None)
        self._room = most - max_new_tokens if most else None
        if self._room is not None and self._room < max_new_tokens:
            raise UserError(
                f"expected --user-max-new-tokens of at most half the context of {spec} ({most}); "
                f"got {max_new_tokens}; give less"
            )
        self.max_new_tokens = max_new_tokens
        self._lock = Lock()  # environments may ask from several threads

    def __call__(self, conversation: Conversation, seed: int) -> str:
        """Say the next message; see `rlchat_envs.users.llm.Writer`.

        Raises:
            WriterError: the model ended its turn without a word.
        """
        import torch

        said = tuple(replace(m, content=whole(m.content)) for m in conversation)
        ids = self._template.opening(said)
        prompt = torch.tensor([ids[-self._room :] if self._room else ids], device=self._device)
        with self._lock, torch.inference_mode():
            out = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                logits_processor=[_Gumbel(seed)],
            )
        ending = str(self._template.tokenizer.decode(ids[-8:]))  # where a thought may be opened
        text = without_thoughts(
            self._template.text(out[0, prompt.shape[1] :].tolist()), opens_thought(ending)
        )
        if not text:
            raise WriterError(
                f"the model said nothing within {self.max_new_tokens} tokens, thoughts included"
            )
        return text

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.device
        return device


class _Gumbel:
    """Makes the likeliest token a sampled one, with noise of one call's own.

    argmax(logits / temperature + Gumbel noise) is a sample of the softmax (Gumbel 1954).
    transformers' own sampling draws from the generator that the whole process shares.
    """

    def __init__(self, seed: int):
        import torch

        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Add noise to the logits (1, V) of the next token."""
        import torch

        waiting = torch.empty(scores.shape).exponential_(generator=self._generator)
        return scores.float() / TEMPERATURE - waiting.log().to(scores.device)
