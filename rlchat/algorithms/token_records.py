"""What an update made of single tokens, for people who look into a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlchat.algorithms.advantages import Estimated
from rlchat.algorithms.batch import Batch

RECORDED = 16  # episodes of an iteration whose tokens are recorded
CONSIDERED = 4  # of these, episodes with alternatives: a product with the whole vocabulary a token
DIGITS = 4
_HALF = "\N{REPLACEMENT CHARACTER}"  # what the bytes of an unfinished character decode to


def considered(batch: Batch) -> list[int]:
    """The rows of a batch whose alternatives are recorded: the first episodes of an iteration."""
    return [row for row, index in enumerate(batch.index.tolist()) if index < CONSIDERED]


def token_records(
    tokenizer: PreTrainedTokenizerBase, estimated: Estimated, most: int | None = RECORDED
) -> list[dict[str, Any]]:
    """What is known of the action tokens of an iteration's first episodes.

    Args:
        tokenizer: turns ids into text.
        estimated: this rank's episodes.
        most: episodes with an index below that; None for all.

    Returns:
        An object an episode: its ``index``; for each action token its ``turn``, ``text``,
        ``logprob``, ``reference`` (the reference's logprob), ``value`` and ``advantage`` (whitened,
        as it enters the loss); and, where they were read, its ``alternatives``: pairs of text and
        logprob, the most probable first.
    """
    annotated = estimated.annotated
    batch = annotated.batch
    records = []
    for row, index in enumerate(batch.index.tolist()):
        if most is not None and index >= most:
            continue
        acts = batch.action_mask[row].nonzero()[:, 0]
        ids, turns = batch.ids[row, acts].tolist(), batch.turns[row, acts].tolist()
        record = {"index": index, "turn": turns, "text": _turn_texts(tokenizer, ids, turns)}
        for name, values in (
            ("logprob", annotated.logprobs),
            ("reference", annotated.ref_logprobs),
            ("value", annotated.values),
            ("advantage", estimated.advantages),
        ):
            record[name] = _rounded(values[row, acts].tolist())
        if row in annotated.alternatives:
            found, logprobs = (x.tolist() for x in annotated.alternatives[row])
            record["alternatives"] = [
                [[_after(tokenizer, before, i), *_rounded([p])] for i, p in zip(*pair, strict=True)]
                for before, *pair in zip(
                    batch.ids[row, acts - 1].tolist(), found, logprobs, strict=True
                )
            ]
        records.append(record)
    return records


def _turn_texts(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], turns: Sequence[int]
) -> list[str]:
    """The text of each token, turn by turn."""
    texts: list[str] = []
    for turn in range(max(turns, default=-1) + 1):
        texts += token_texts(
            tokenizer, [i for i, own in zip(ids, turns, strict=True) if own == turn]
        )
    return texts


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to those before it.

    A character of several tokens is the last one's; the others add nothing.
    """
    texts: list[str] = []
    prefix = read = 0  # where decoding starts, so that spaces between words stay, and what is told
    for end in range(1, len(ids) + 1):
        known, now = (_decoded(tokenizer, ids[prefix:stop]) for stop in (read, end))
        if end < len(ids) and now.endswith(_HALF):
            texts.append("")
            continue
        texts.append(now[len(known) :])
        prefix, read = read, end
    return texts


def _after(tokenizer: PreTrainedTokenizerBase, before: int, token: int) -> str:
    """The text of a token that stands behind another."""
    known = _decoded(tokenizer, [before])
    return _decoded(tokenizer, [before, token])[len(known) :]


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _rounded(values: Sequence[float]) -> list[float | None]:
    """Numbers with few digits; JSON knows no NaN."""
    return [round(v, DIGITS) if abs(v) < float("inf") else None for v in values]
