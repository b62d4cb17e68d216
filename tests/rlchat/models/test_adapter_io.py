from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rlchat.errors import UserError
from rlchat.models.adapter_io import base_spec, read_config
from rlchat.models.config import MERGED, METHODS, AdapterConfig
from rlchat.models.fetching.catalog import fetch, make_tiny
from rlchat.models.policy import Policy

MakePolicy = Callable[..., Policy]
IDS = torch.arange(40).reshape(2, 20)
CONFIG = AdapterConfig(dtype="float32", device="cpu")


@torch.no_grad()
def logits(policy: Policy) -> torch.Tensor:
    packing = policy.packing(list(IDS))
    at = packing.at(torch.arange(2).repeat_interleave(20), torch.arange(20).repeat(2))
    last, _ = policy.trunk_states(packing.ids, packing, at)
    return policy.head(last).view(2, 20, -1)


@pytest.mark.parametrize("method", METHODS)
def test_plain_peft_loads_it(make_policy: MakePolicy, tmp_path: Path, method: str) -> None:
    policy = make_policy(method)
    policy.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(fetch("tiny"), dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, tmp_path / "adapter")
    with torch.no_grad():
        theirs = plain(input_ids=IDS).logits[:, -20:]  # of virtual tokens peft gives logits too
    torch.testing.assert_close(theirs, logits(policy), atol=1e-5, rtol=1e-4)
    if method in MERGED:  # peft freezes no virtual tokens
        assert not any(p.requires_grad for p in plain.parameters())


@pytest.mark.long
def test_nothing_of_ours_is_needed_to_load_it(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "adapter")
    code = (
        "import sys, torch; from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM as A\n"
        "m = PeftModel.from_pretrained(A.from_pretrained(sys.argv[1]), sys.argv[2])\n"
        "with torch.no_grad(): x = m(input_ids=torch.arange(40).reshape(2, 20)).logits\n"
        "torch.save(x, 'logits.pt'); assert not [k for k in sys.modules if 'rlchat' in k]"
    )
    command = [sys.executable, "-c", code, str(fetch("tiny")), str(tmp_path / "adapter")]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = torch.load(tmp_path / "logits.pt")
    torch.testing.assert_close(out, logits(policy), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_back_to_be_trained_on(
    make_policy: MakePolicy, tmp_path: Path, method: str
) -> None:
    policy = make_policy(method)
    policy.save(tmp_path / "adapter")
    again = Policy.create("tiny", CONFIG, adapter=tmp_path / "adapter")
    assert torch.equal(logits(again), logits(policy))
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in policy.named_parameters()]
    trained = {n for n, p in again.model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in policy.named_parameters()}
    with again.using("reference"):
        assert torch.equal(logits(again), logits(policy))


@pytest.mark.parametrize("method", METHODS)
def test_full_precision_weights_are_written_instead(
    make_policy: MakePolicy, tmp_path: Path, method: str
) -> None:
    """A bfloat16 policy is saved from its float32 masters."""
    policy, exact = make_policy(method, dtype="bfloat16"), make_policy(method)
    policy.save(tmp_path / "adapter", {n: p.detach() for n, p in exact.named_parameters()})
    again = Policy.create("tiny", CONFIG, adapter=tmp_path / "adapter")
    pairs = zip(again.parameters(), exact.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_saving_changes_nothing_in_the_policy(policy: Policy, tmp_path: Path) -> None:
    before = logits(policy)
    mode = policy.model.peft_config["policy"].inference_mode
    policy.save(tmp_path / "adapter")
    assert policy.model.peft_config["policy"].inference_mode == mode
    assert torch.equal(logits(policy), before)


def test_an_adapter_of_another_base_is_refused(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "adapter")
    make_tiny(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="weights differ; load it over tiny"):
        Policy.create(str(tmp_path / "other"), CONFIG, adapter=tmp_path / "adapter")
    make_tiny(tmp_path / "same")  # the same weights at another place are the same base
    again = Policy.create(str(tmp_path / "same"), CONFIG, adapter=tmp_path / "adapter")
    assert torch.equal(logits(again), logits(policy))


def test_it_remembers_its_base(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "adapter")
    assert base_spec(tmp_path / "adapter") == "tiny"
    record = json.loads((tmp_path / "adapter/rlchat_base.json").read_text())
    assert record["weights_sha256"] == policy.base.weights_sha256


def test_it_remembers_how_much_of_a_message_it_reads(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path / "usual")
    assert "max_message_tokens" not in (tmp_path / "usual/rlchat_base.json").read_text()
    Policy.create("tiny", replace(CONFIG, max_message_tokens=30)).save(tmp_path / "short")
    read = [
        Policy.create("tiny", config, tmp_path / name).template.cuts.most
        for name in ("usual", "short")
        for config in (CONFIG, replace(CONFIG, max_message_tokens=40))
    ]
    assert read == [512, 40, 30, 40]
    with pytest.raises(UserError, match="max_message_tokens of at least 1"):
        AdapterConfig(max_message_tokens=0)


def test_broken_folders_are_refused_in_a_sentence(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        read_config(tmp_path / "nowhere")
    folder = tmp_path / "adapter"
    policy.save(folder)
    (folder / "rlchat_base.json").write_text("{}")
    with pytest.raises(UserError, match="missing or broken"):
        Policy.create("tiny", CONFIG, adapter=folder)
    policy.save(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(UserError, match=r"adapter_config\.json cannot be read"):
        Policy.create("tiny", CONFIG, adapter=folder)
