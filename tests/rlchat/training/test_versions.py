"""Versions of a run, however many there are."""

from __future__ import annotations

from pathlib import Path

from rlchat.training.run_folder import RunFolder
from rlchat.training.versions import Versions


def adapter(folder: Path, weights: bytes) -> Path:
    """A folder that passes for an adapter as far as copies and hashes go."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_a_thousandth_version_is_one_like_the_others(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    adapter(run.adapter, b"now")
    versions = Versions(run)
    assert versions.begin() == 0
    for number in (99, 999):
        kept = versions.keep(adapter(tmp_path / "new", b"%d" % number), "thumbs")
        place = versions.place(kept.number)
        text = (place / "version.json").read_text("utf-8")
        (place / "version.json").write_text(
            text.replace(f'"number": {kept.number}', f'"number": {number}')
        )
        place.rename(versions.place(number))
    for number in (1000, 1001):
        assert versions.keep(adapter(tmp_path / "new", b"%d" % number), "thumbs").number == number
    assert [v.number for v in versions.all()] == [0, 99, 999, 1000, 1001]
    versions.use(1000)
    assert versions.current == 1000
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == b"1000"


def test_all_weights_that_a_run_has_are_known(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    adapter(run.adapter, b"now")
    adapter(run.warm_start, b"before")
    versions = Versions(run)
    versions.begin()
    versions.keep(adapter(tmp_path / "new", b"next"), "thumbs")
    assert len(versions.hashes) == 3
