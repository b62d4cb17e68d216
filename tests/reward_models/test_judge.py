"""A learned scorer, on a tiny encoder and a tiny decoder with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLNetConfig,
    XLNetModel,
)

from rlchat_envs import Conversation, Message
from rlchat_reward_models.judge import Judge, Opinion
from rlchat_reward_models.learned import LearnedScorer, Scale, Settings, split_whole, turns_of
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.reading import Reader
from rlchat_reward_models.report import judge_all
from rlchat_reward_models.training import (
    Collate,
    JudgeTraining,
    dataset,
    preference_loss,
    train_judge,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\n", ":", "user", "agent", "desk"]
WORDS += ["yes", "no", "please", "parcel", "where", "is", "my", "go", "away", "sorry", "."]


def tokenizer(encoder: bool = True) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if encoder else {"eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", **marks
    )


def trunk(kind: str) -> Any:
    size: dict[str, Any] = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    if kind == "bert":
        return BertModel(BertConfig(**size))
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**size, max_position_embeddings=100, pad_token_id=0))
    if kind == "xlnet":
        return XLNetModel(
            XLNetConfig(vocab_size=len(WORDS), d_model=16, n_layer=1, n_head=2, d_inner=32)
        )
    return LlamaModel(LlamaConfig(**size))


def scorer(kind: str = "bert", heads: int = 3) -> LearnedScorer:
    reader = Reader(tokenizer(kind != "llama"), 48)
    judge = Judge(trunk(kind), reader.encoder, heads)
    return LearnedScorer(judge, reader, Settings(kind, False, heads, 48, Scale()), batch=2)


ASKED = (Message("system", "go away"), Message("user", "where is my parcel"))
KIND, RUDE = (Message("assistant", "sorry . yes please"),), (Message("assistant", "no . go away"),)


def test_what_is_read() -> None:
    reader = Reader(tokenizer(), 48)
    read = reader.read(ASKED, KIND)
    words = [WORDS[i] for i in read.ids]
    # Instructions are left out; the reply stands alone after the mark.
    assert words[: read.start] == ["[CLS]", "user", ":", "where", "is", "my", "parcel", "[SEP]"]
    assert words[read.start :] == ["sorry", ".", "yes", "please", "[SEP]"]


def test_a_long_context_loses_its_beginning_and_a_reply_its_end() -> None:
    reader = Reader(tokenizer(), 32, max_reply=8)
    long = tuple(Message("user", f"my {'go ' * 20}parcel") for _ in range(3))
    read = reader.read(long, (Message("assistant", "yes " * 50),))
    assert len(read.ids) == 32
    assert WORDS[read.ids[read.start - 2]] == "parcel"
    assert len(read.ids) - read.start == 8 + 1


def test_of_a_whole_conversation_the_end_is_read() -> None:
    reader = Reader(tokenizer(), 32, max_reply=4)
    said = [
        Message("assistant", "go " * 6),
        Message("user", "my parcel"),
        Message("assistant", "yes"),
    ]
    read = reader.read((Message("user", "hi"),), tuple(said))
    words = [WORDS[i] for i in read.ids]
    assert words[read.start :] == ["go", "go", "go", "yes", "[SEP]"]
    assert "parcel" in words[: read.start]


def test_marks_in_a_text_stay_text() -> None:
    reader = Reader(tokenizer(), 48)
    read = reader.read((), (Message("assistant", "yes [SEP] no"),))
    assert read.ids.count(WORDS.index("[SEP]")) == 2  # ours, and not a third


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet", "llama"])
def test_a_score_does_not_depend_on_who_is_beside_it(kind: str) -> None:
    judge = scorer(kind)
    turns = [(ASKED, KIND), (ASKED * 3, RUDE), ((), KIND), (ASKED, RUDE)]
    together = judge.score(turns)
    alone = [scorer(kind).score([turn])[0] for turn in turns]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 4


def test_what_was_judged_is_not_judged_again() -> None:
    judge = scorer()
    first = judge.score([(ASKED, KIND), (ASKED, RUDE)])
    judge.judge = None  # type: ignore[assignment]
    assert judge.score([(ASKED, RUDE), (ASKED, KIND)]) == first[::-1]


def test_the_scale_by_hand() -> None:
    opinion = Opinion(torch.tensor([3.0]), torch.tensor([2.0]))
    scale = Scale(temperature=2.0, mean=0.5, std=0.25, caution=0.5)
    assert float(scale.logits(opinion)) == 1.0  # (3 − 0.5 · 2) / 2
    assert float(scale.scores(opinion)) == 2.0  # (1 − 0.5) / 0.25


def test_the_reference_policy_s_replies_score_0_with_spread_1() -> None:
    judge = scorer()
    turns = [(ASKED[:n], reply) for n in (0, 1, 2) for reply in (KIND, RUDE)]
    judge.normalise(turns)
    scores = torch.tensor(judge.score(turns))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5)
    assert float(scores.std()) == pytest.approx(1, abs=1e-4)


def test_the_loss_by_hand() -> None:
    # One head, Δ = 2.5 − 1 = 1.5, label 0.8:
    # 0.8 log(1 + e^−1.5) + 0.2 log(1 + e^1.5) = 0.8 · 0.201413 + 0.2 · 1.701413 = 0.501413
    scores, pairs = torch.tensor([[1.0], [2.5]]), torch.tensor([[1, 0]])
    loss = preference_loss(scores, pairs, torch.tensor([0.8]), torch.ones(1, 1))
    assert float(loss) == pytest.approx(0.501413, abs=1e-5)


def test_comparisons_count_for_heads_as_they_are_told() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # the first head is right, the second wrong
    pairs, label = torch.tensor([[0, 1]]), torch.ones(1)
    first = preference_loss(scores, pairs, label, torch.tensor([[1.0, 0.0]]))
    second = preference_loss(scores, pairs, label, torch.tensor([[0.0, 1.0]]))
    assert float(first) == pytest.approx(0.126928, abs=1e-5)  # log(1 + e^−2)
    assert float(second) == pytest.approx(2.126928, abs=1e-5)


def test_a_reply_that_is_compared_with_several_is_read_once() -> None:
    middle = (Message("assistant", "yes"),)
    of_one = [Preference(ASKED, KIND, RUDE), Preference(ASKED, KIND, middle, 0.5)]
    rows = dataset([*of_one, Preference((), RUDE, middle)], Reader(tokenizer(), 48), 2, 0)
    assert [len(row["ids"]) for row in rows] == [3, 2]
    batch = Collate(Reader(tokenizer(), 48))(list(rows))
    assert batch["input_ids"].shape[0] == 5
    assert batch["pairs"].tolist() == [[0, 1], [0, 2], [3, 4]]
    assert batch["labels"].tolist() == [1.0, 0.75, 1.0]
    assert batch["counts"].shape == (3, 2)


def preferences(count: int = 64) -> list[Preference]:
    contexts: list[Conversation] = [ASKED, ASKED[1:], (), (*ASKED, *RUDE, Message("user", "no"))]
    return [Preference(contexts[i % 4], KIND, RUDE, 0.9, dialogue=f"d{i}") for i in range(count)]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_learns(kind: str) -> None:
    judge = scorer(kind)
    told: list[float] = []
    training = JudgeTraining(epochs=4, batch=8, learning_rate=3e-3)
    train_judge(
        judge.judge,
        judge.reader,
        preferences(),
        training,
        report=lambda row: told.append(row["loss"]),
    )
    judged = judge_all(judge, preferences(8))
    assert all(judged.right)
    assert told[-1] < told[0]


def test_it_is_kept_and_opened_again(tmp_path: Path) -> None:
    judge = scorer()
    judge.rescale(Scale(1.5, 0.1, 2.0, 0.25))
    judge.save(tmp_path)

    def nothing(name: str) -> Any:
        raise AssertionError("an encoder's trunk lies in the folder")

    again = LearnedScorer.load(tmp_path, nothing)
    turns = [(ASKED, KIND), (ASKED, RUDE)]
    assert again.settings == judge.settings
    assert again.score(turns) == pytest.approx(judge.score(turns), abs=1e-6)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


def test_a_folder_that_holds_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a reward model .* train one"):
        LearnedScorer.load(tmp_path, lambda name: pytest.fail("never asked"))
    (tmp_path / "judge.json").write_text('{"heads": "many"}', "utf-8")
    with pytest.raises(ValueError, match="expected a reward model"):
        LearnedScorer.load(tmp_path, lambda name: pytest.fail("never asked"))


def test_a_whole_conversation_begins_with_the_agent() -> None:
    opening = (Message("system", "be kind"), Message("user", "hi"))
    rest = (Message("assistant", "yes"), Message("user", "bye"))
    assert split_whole(opening + rest) == (opening, rest)
    assert split_whole(opening) == (opening, ())


def test_every_reply_with_what_came_before() -> None:
    conversation = (*ASKED, *KIND, Message("user", "no"), *RUDE)
    assert turns_of(conversation) == [(ASKED, KIND), (conversation[:4], RUDE)]
