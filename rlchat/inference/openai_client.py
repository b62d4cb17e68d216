"""A language model behind HTTP: the one client, of OpenAI-compatible chat completions."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from rlchat.errors import Notice, RunError, UserError
from rlchat.inference.chat_completion import (
    MOST_ERROR_BYTES,
    Chat,
    Completion,
    Malformed,
    Spelling,
    error_limit,
    named_options,
    read_body,
    read_completion,
)
from rlchat.inference.server_url import check_url, parse_spec
from rlchat_envs import Conversation

if TYPE_CHECKING:  # it is slow to import, and needed for endpoints alone
    import openai

TRIES = 3  # of a reply that is no chat completion
WAIT = 0.5  # seconds before the second of them; the third waits twice as long
ROOM = 2048  # tokens in which a model can think to the end, to see whether it does


class EndpointError(RunError):
    """The endpoint gave no usable answer, however often it was asked."""


class NothingSaid(EndpointError):
    """The server answered as it should, but without a word."""


class Endpoint:
    """A model behind an OpenAI-compatible server.

    Requests that time out, do not get through or are turned away (408, 409, 429, 5xx) are repeated
    by the openai client, with exponential backoff or after what ``Retry-After`` says. Redirections
    are not followed: what is said goes to the named server alone. Several threads may ask at once.
    """

    def __init__(self, model: str, url: str, timeout_s: float = 60.0, retries: int = 4):
        """Prepare to ask; nothing is sent yet.

        Args:
            model: as the server calls it.
            url: up to, and without, ``/chat/completions``.
            timeout_s: seconds that one request may take.
            retries: of a request, after the first time.

        Raises:
            UserError: a setting out of range, a key that cannot be sent, or no openai package.
        """
        if not timeout_s > 0 or retries < 0:
            raise UserError(
                "expected a timeout above 0 seconds and retries of at least 0; got "
                f"{timeout_s} and {retries}"
            )
        self.model, self.url = model, check_url(url)
        self.timeout_s, self.retries = timeout_s, retries
        self._key = _key()
        self._openai = _import_openai()
        self._client = self._openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.url,
            timeout=timeout_s,
            max_retries=retries,
            http_client=self._openai.DefaultHttpxClient(
                follow_redirects=False,
                headers={"Accept-Encoding": "identity"},  # what is read has the size it came in
                event_hooks={"response": [error_limit(timeout_s)]},
            ),
        )
        self._spelling = Spelling()
        self._taken: set[str] = set()  # options that this server has heeded, or ignored
        self._answered = False  # before it has, what goes wrong is likely the address or the name
        self._thinks: bool | None = None  # None while nothing tells
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The endpoint's name on the command line."""
        return f"{self.model}@{self.url}"

    def ask(
        self,
        conversation: Conversation,
        seed: int,
        temperature: float = 0.7,
        max_tokens: int | None = None,
    ) -> str:
        """Ask the model for the next message.

        What a look-up found goes with the user's message before it, marked ``[desk]``, as many
        servers know no such messages of their own. An option that the server refuses is left out
        from then on; where it refuses functions, it is told of them in words. What the model
        thinks is no part of what it says, also where nothing marks it: a reply that ends with its
        budget counts only if the model is known not to think.

        Args:
            conversation: so far.
            seed: of the server's sampler; not every server heeds it.
            temperature: of the sampler.
            max_tokens: budget of the reply; the server's own if None.

        Returns:
            The text, without what a reasoning model thinks before it. Calls of functions are in
            the form that environments read.

        Raises:
            UserError: the server does not know the key or the model, or is none of this kind.
            EndpointError: no usable answer after all tries.
        """
        chat = Chat(conversation)
        wishes: dict[str, Any] = {"temperature": temperature, "seed": seed}
        if chat.tools:
            wishes["tools"] = chat.tools
        if max_tokens is not None:
            wishes["max_tokens"] = max_tokens
        wrong = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT * 2 ** (attempt - 1))
                wishes["seed"] = seed + attempt  # the same seed would say the same
            try:
                said = self._answer(chat, wishes)
            except Malformed as error:
                wrong = self._described(error)
                continue
            if said.text and not self._is_thought(said, chat, max_tokens):
                return said.text
            if said.cut:  # which another seed would not change
                raise NothingSaid(
                    f"{self.name} said nothing within {max_tokens or 'its'} tokens, which its "
                    "thoughts may have taken; give users more with --user-max-new-tokens, or "
                    "switch its thinking off at the server"
                )
            wrong = ""
        if not wrong:
            raise NothingSaid(f"{self.name} gave a reply without a word, {TRIES} times")
        raise self._failure(
            f"expected chat completions from {self.name}; got {wrong}, {TRIES} times; check that "
            "the URL is an OpenAI-compatible one, which usually ends in /v1"
        )

    def _is_thought(self, said: Completion, chat: Chat, budget: int | None) -> bool:
        """Whether a text may be a thought that nothing marks, as the budget ended before its mark.

        Templates of some models write the opening mark into the prompt, so that the closing one is
        the first sign. What the model does is tried once, with room to think to the end.
        """
        if not said.cut or said.thought:
            return False
        if budget is not None:
            with self._lock:
                if self._thinks is None:
                    self._thinks = self._thinks_with_room(chat)
        return bool(self._thinks)

    def _thinks_with_room(self, chat: Chat) -> bool:
        try:
            said = self._answer(chat, {"max_tokens": ROOM}, retries=1)
        except (Malformed, EndpointError):  # not even in the longest time that it may take
            return True
        return said.thought or said.cut

    def _answer(
        self, chat: Chat, wishes: Mapping[str, Any], retries: int | None = None
    ) -> Completion:
        """Ask, and ask again without the options that are refused."""
        spelling, refused = self._spelling, list[str]()
        while True:
            sent = spelling.sent(wishes)
            try:
                body = self._request(chat, sent, retries)
                break
            except self._openai.OpenAIError as error:
                names = self._blamed(error, chat, sent)
                refused += names
                spelling = spelling.without(names)
        self._learn(refused, sent)
        said = read_completion(body, sent.get("max_tokens", sent.get("max_completion_tokens")))
        self._answered = True
        if said.thought:
            self._thinks = True
        return said

    def _blamed(self, error: openai.OpenAIError, chat: Chat, sent: Mapping[str, Any]) -> list[str]:
        """The options that a request was refused for: those that are named, else found by trial.

        Raises:
            UserError, EndpointError: it was refused for something else.
        """
        if not self._refuses(error):
            raise self._explained(error) from error
        assert isinstance(error, self._openai.APIStatusError)
        param = error.param if isinstance(error.param, str) else ""
        complaint = param or error.response.content.decode(errors="replace")
        if named := list(named_options(complaint, sent)):
            return named
        if not sent or param or not self._takes(chat, {}):
            raise self._explained(error) from error
        alone = [name for name in sent if not self._takes(chat, {name: sent[name]})]
        return alone or list(sent)

    def _takes(self, chat: Chat, options: Mapping[str, Any]) -> bool:
        """Whether the server takes a request with these options and no others."""
        try:
            self._request(chat, options)
            return True
        except self._openai.OpenAIError as error:
            if self._refuses(error):
                return False
            raise self._explained(error) from error

    def _refuses(self, error: openai.OpenAIError) -> bool:
        """Whether the server says that a request is not one that it takes."""
        return isinstance(
            error, self._openai.BadRequestError | self._openai.UnprocessableEntityError
        )

    def _learn(self, refused: list[str], sent: Mapping[str, Any]) -> None:
        """Remember, and say once, what the server refuses, unless it has taken it before."""
        for name in refused:
            if name not in self._taken and self._spelling.is_sent(name):
                self._spelling = self._spelling.without([name])
                warnings.warn(
                    f"{self.name} refuses the option {name}; it is asked without from now on",
                    Notice,
                    stacklevel=2,
                )
        self._taken |= sent.keys()

    def _request(self, chat: Chat, options: Mapping[str, Any], retries: int | None = None) -> bytes:
        """Send one request; read the reply in pieces, as its length and its pace are not ours."""
        client = self._client if retries is None else self._client.with_options(max_retries=retries)
        create: Any = client.chat.completions.with_streaming_response.create
        with create(
            model=self.model, messages=chat.sent("tools" in options), **options
        ) as response:
            return read_body(response, self.timeout_s)

    def _explained(self, error: openai.OpenAIError) -> UserError | EndpointError:
        """Say what the client's last error means to a person."""
        times = f"{self.retries + 1} times"
        if isinstance(error, self._openai.APITimeoutError):
            return EndpointError(f"{self.name} gave no answer in {self.timeout_s:g} s, {times}")
        if isinstance(error, self._openai.APIConnectionError):
            cause = str(error.__cause__ or error)
            return self._failure(
                f"expected a server at {self.url}; got no connection, {times} ({cause}); start it "
                "or check the address"
            )
        if not isinstance(error, self._openai.APIStatusError):
            return EndpointError(f"{self.name} could not be asked ({type(error).__name__})")
        status = error.status_code
        if status in (401, 403):
            state = "the one it holds" if self._key else "none, as it is not set"
            return UserError(
                f"expected a key for {self.url} in OPENAI_API_KEY; got {state}, and the server "
                f"says {status}; set it to a key of that server"
            )
        if status == 404:
            return UserError(
                f"expected {self.url} to serve a model called {self.model!r}; it says 404; check "
                "the name, and the URL, which usually ends in /v1"
            )
        said = self._excerpt(error.response.content)
        if status in (408, 409, 429) or status >= 500:
            return EndpointError(f"{self.name} turned requests away, {times}: {status}, {said}")
        return self._failure(f"expected {self.name} to answer; it says {status}: {said}")

    def _failure(self, sentence: str) -> UserError | EndpointError:
        return EndpointError(sentence) if self._answered else UserError(sentence)

    def _described(self, error: Malformed) -> str:
        return str(error) if error.body is None else f"{error} {self._excerpt(error.body)}"

    def _excerpt(self, body: bytes) -> str:
        """A reply's beginning, fit to be printed and without the key, should it hold it."""
        text = " ".join(body[:MOST_ERROR_BYTES].decode(errors="replace").split())
        text = text.replace(self._key, "***") if self._key else text
        return repr(text[:120]) if text else "nothing"


def _key() -> str:
    """The key, empty if there is none.

    Raises:
        UserError: it cannot be sent; it is not shown.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(
            "expected OPENAI_API_KEY to hold one word of ASCII letters and signs; got something "
            "else; copy the key again, without blanks"
        )
    return key


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise UserError(
            "expected the package openai, which asks servers of language models; it is not "
            "installed; run pip install 'rlchat[llm]'"
        ) from error
    return openai


@cache
def find_endpoint(spec: str) -> Endpoint:
    """The endpoint ``MODEL@URL``, one for all who ask.

    Raises:
        UserError: it is none.
    """
    return Endpoint(*parse_spec(spec))
