from transformers import PreTrainedTokenizerFast

from rlchat_envs import Message
from rlchat_reward_models.tokenization import ReplyTokenizer

ASKED = (Message("system", "go away"), Message("user", "where is my parcel"))
KIND = (Message("assistant", "sorry . yes please"),)


def test_what_is_tokenized(tokenizer: PreTrainedTokenizerFast) -> None:
    replies = ReplyTokenizer(tokenizer, 48)
    found = replies.tokenize(ASKED, KIND)
    words = tokenizer.convert_ids_to_tokens(found.ids)
    # Instructions are left out; the reply stands alone after the mark.
    assert words[: found.start] == ["[CLS]", "user", ":", "where", "is", "my", "parcel", "[SEP]"]
    assert words[found.start :] == ["sorry", ".", "yes", "please", "[SEP]"]


def test_a_long_context_loses_its_beginning_and_a_reply_its_end(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    replies = ReplyTokenizer(tokenizer, 32, max_reply=8)
    long = tuple(Message("user", f"my {'go ' * 20}parcel") for _ in range(3))
    found = replies.tokenize(long, (Message("assistant", "yes " * 50),))
    assert len(found.ids) == 32
    assert tokenizer.convert_ids_to_tokens(found.ids[found.start - 2]) == "parcel"
    assert len(found.ids) - found.start == 8 + 1


def test_of_a_whole_conversation_the_end_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    replies = ReplyTokenizer(tokenizer, 32, max_reply=4)
    said = [
        Message("assistant", "go " * 6),
        Message("user", "my parcel"),
        Message("assistant", "yes"),
    ]
    found = replies.tokenize((Message("user", "hi"),), tuple(said))
    words = tokenizer.convert_ids_to_tokens(found.ids)
    assert words[found.start :] == ["go", "go", "go", "yes", "[SEP]"]
    assert "parcel" in words[: found.start]


def test_marks_in_a_text_stay_text(tokenizer: PreTrainedTokenizerFast) -> None:
    replies = ReplyTokenizer(tokenizer, 48)
    found = replies.tokenize((), (Message("assistant", "yes [SEP] no"),))
    assert found.ids.count(tokenizer.sep_token_id) == 2  # ours, and not a third


def test_a_reply_alone_is_never_longer_than_all(tokenizer: PreTrainedTokenizerFast) -> None:
    found = ReplyTokenizer(tokenizer, 32).tokenize(ASKED, (Message("assistant", "yes " * 90),))
    assert len(found.ids) == 32
