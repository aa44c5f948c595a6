"""Who made a patch: signatures, trusted and revoked keys, and a device that asks for them."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cryptography")

from tbft.blocks.tensors import fingerprint
from tbft.cli import main
from tbft.errors import KeyFileError, PatchError, TbftError
from tbft.models import read_state
from tbft.models.digits import DigitsNet
from tbft.patches import Patch, make_patch
from tbft.patches.keys import new_key, parse_public, read_private, read_public
from tbft.patches.trust import revoke, revoked_ids, trust


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A base, two patches of which the second goes on the first, and a device that trusts the workshop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TBFT_KEYS", "keys")
    monkeypatch.setenv("TBFT_TRUST", "trust")
    monkeypatch.delenv("TBFT_KEY_PASSPHRASE", raising=False)
    monkeypatch.setenv("TBFT_REQUIRE_SIGNATURE", "1")
    torch.manual_seed(0)
    state = DigitsNet(10).state_dict()
    torch.save(state, "base.pt")
    for i in (1, 2):
        changed = {"fc.bias": torch.full((10,), float(i))}
        make_patch(state, changed, "rear", measured={"val_accuracy": 0.5}).save(f"p{i}.safetensors")
        state = {**state, **changed}
    for name in ("workshop", "stranger"):
        new_key(name)
    trust(read_public("workshop"))
    return tmp_path


def refused(command: str, message: str, capsys) -> None:
    """The command refuses with this message, and writes nothing."""
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


def test_a_session_of_sign_verify_apply_and_revert_ends_in_the_base(place, capsys):
    for command in (
        "patch sign p1.safetensors --key workshop --serial 1",
        "patch sign p2.safetensors --key workshop --serial 2",
        "patch verify p1.safetensors --key keys/workshop.pub --weights base.pt",
        "patch apply p1.safetensors --weights base.pt --out device.safetensors",
        "patch apply p2.safetensors --weights device.safetensors --out device.safetensors",
        "patch log device.safetensors",
        "patch revert --weights device.safetensors",
        "patch revert --weights device.safetensors",
    ):
        assert main(command.split()) == 0, command
    assert "workshop" in capsys.readouterr().out
    assert fingerprint(read_state("device.safetensors")) == fingerprint(read_state("base.pt"))


def test_each_command_on_patches_and_keys_prints_one_json_object(place, capsys):
    said = {}
    for command in (
        "patch verify p1.safetensors",
        "patch sign p1.safetensors --key workshop --serial 1",
        "patch verify p1.safetensors --key keys/workshop.pub --weights base.pt",
        "patch apply p1.safetensors --weights base.pt --out device.safetensors",
        "patch revert --weights device.safetensors",
        "keys new another",
        "keys trust keys/another.pub",
        "keys show",
        "keys show another",
        "keys revoke another",
    ):
        capsys.readouterr()
        assert main([*command.split(), "--json"]) == (0 if command != "patch verify p1.safetensors" else 2)
        out = capsys.readouterr().out
        said[command] = json.loads(out) if out else None
    unsigned, signed, verified, applied, reverted, new, trusted, keys, shown, revoked = said.values()
    assert unsigned is None  # a signature is required here
    assert verified["signer"] == signed["signer"] == "workshop"
    assert verified["key"] == signed["key"] and verified["fits"] and verified["intact"]
    assert applied["fingerprint"] == verified["tuned_fingerprint"]
    assert (place / applied["undo"]).exists() and (applied["patches"], reverted["patches"]) == (1, 0)
    assert new["id"] == trusted["id"] == shown["id"] == revoked["id"] and Path(new["private"]).exists()
    assert ("another", "trusted") in {(key["name"], key["what"]) for key in keys["keys"]}


def test_what_is_not_signed_by_a_trusted_key_is_refused_wherever_it_is_applied(place, capsys):
    np.savez("set.npz", x=np.zeros((4, 8, 8, 1), np.uint8), y=np.zeros(4, int))
    commands = (
        "patch apply p1.safetensors --weights base.pt --out device.safetensors",
        "patch verify p1.safetensors --weights base.pt",
        "evaluate digits --weights base.pt --patch p1.safetensors --data set.npz",
    )
    model = DigitsNet(10)
    model.load_state_dict(torch.load("base.pt", weights_only=True))
    for signer, message in ((None, "is not signed"), ("stranger", "which is not trusted here")):
        if signer:
            assert main(f"patch sign p1.safetensors --key {signer}".split()) == 0
        for command in commands:
            refused(command, message, capsys)
        with pytest.raises(PatchError, match=message):
            Patch.load("p1.safetensors").apply(model)
    assert main("patch sign p1.safetensors --key workshop".split()) == 0
    for command in commands:
        assert main(command.split()) == 0
    assert main("keys revoke workshop".split()) == 0
    for command in (commands[0], "patch verify p1.safetensors --key keys/workshop.pub"):
        refused(command, "which was revoked here", capsys)
    refused("keys trust keys/workshop.pub", "was revoked", capsys)


def test_what_was_made_here_and_what_undoes_a_patch_need_no_signature(place):
    model = DigitsNet(10)
    base = fingerprint(model.state_dict())
    made = make_patch(model.state_dict(), {"fc.bias": torch.zeros(10)}, "rear")
    made.apply(model).apply(model)
    assert fingerprint(model.state_dict()) == base


def test_an_older_patch_is_not_put_on_again(place, capsys):
    key = read_private("workshop")
    state = read_state("base.pt")
    for serial in (5, 7):
        made = make_patch(state, {"fc.bias": torch.full((10,), float(serial))}, "rear")
        made.signed(key, serial).save(f"s{serial}.safetensors")
    apply = "patch apply s{}.safetensors --weights base.pt --out device.safetensors"
    assert main(apply.format(5).split()) == 0
    assert main(apply.format(7).split()) == 0
    refused(apply.format(5), "is older (serial 5) than one that was put on", capsys)
    assert main("patch revert --weights device.safetensors".split()) == 0
    refused(apply.format(5), "is older (serial 5)", capsys)
    assert main(apply.format(7).split()) == 0


def test_a_signature_is_of_this_patch_and_of_this_serial(place):
    patch = Patch.load("p1.safetensors").signed(read_private("workshop"), 3)
    assert patch.signer().name == "workshop"
    header = replace(patch.header, arm="front")
    tensors = {"fc.bias": torch.zeros(10)}
    signature = patch.signature
    for changed in (
        replace(patch, header=header),
        replace(patch, tensors=tensors),
        replace(patch, signature=replace(signature, serial=4)),
        replace(patch, signature=replace(signature, value="AAAA")),
        replace(patch, signature=replace(signature, value="?")),
    ):
        with pytest.raises(PatchError, match="was changed after signing"):
            changed.signer()
    patch.save("p1.safetensors")
    assert Patch.load("p1.safetensors").signer().name == "workshop"


def test_keys_are_private_never_written_over_and_may_be_encrypted(place, monkeypatch, capsys):
    assert stat.S_IMODE(Path("keys/workshop.key").stat().st_mode) == 0o600
    refused("keys new workshop", "exists already", capsys)
    refused("keys new ../escape", "is not valid as the name of a key", capsys)
    monkeypatch.setenv("TBFT_KEY_PASSPHRASE", "secret")
    new_key("locked")
    assert read_private("locked").public == read_public("locked")
    assert read_private("workshop").public.name == "workshop"
    for word in ("wrong", ""):
        monkeypatch.setenv("TBFT_KEY_PASSPHRASE", word)
        with pytest.raises(KeyFileError, match="passphrase"):
            read_private("locked")
    assert main(["keys", "show"]) == 0
    assert "trusted" in capsys.readouterr().out
    assert main(["keys", "show", "locked"]) == 0
    copy = Path("copy.pub")
    copy.write_text(capsys.readouterr().out)
    assert read_public(copy).line.startswith("tbft-ed25519 ")


@pytest.mark.parametrize(
    "line", ["", "x", "tbft-ed25519 AAAA name", "tbft-ed25519 ? name", "ssh-ed25519 AAAA n"]
)
def test_what_is_not_a_public_key_is_refused(line):
    with pytest.raises(KeyFileError, match="is not a public key"):
        parse_public(line, "it")


def test_a_policy_that_says_neither_is_refused(place, monkeypatch):
    monkeypatch.setenv("TBFT_REQUIRE_SIGNATURE", "perhaps")
    with pytest.raises(TbftError, match="set it to 1, or to 0"):
        Patch.load("p1.safetensors").applied_to(read_state("base.pt"))


def test_without_the_extra_signed_patches_are_refused_where_they_are_required_alone(place, monkeypatch):
    signed = Patch.load("p1.safetensors").signed(read_private("workshop"))
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    signed = replace(signed, source="p1.safetensors")
    with pytest.raises(TbftError, match=r"pip install 'tbft\[sign\]'"):
        signed.applied_to(read_state("base.pt"))
    monkeypatch.setenv("TBFT_REQUIRE_SIGNATURE", "0")
    signed.applied_to(read_state("base.pt"))


def test_the_halves_of_a_key_have_to_belong_together(place, capsys):
    Path("keys/workshop.pub").write_bytes(Path("keys/stranger.pub").read_bytes())
    refused("patch sign p1.safetensors --key workshop", "does not belong to keys/workshop.pub", capsys)


def test_a_device_without_keys_of_its_own_revokes_by_the_name_that_it_trusts(place, monkeypatch, capsys):
    monkeypatch.setenv("TBFT_KEYS", "none")
    assert main("keys revoke workshop".split()) == 0
    assert "revoked" in [line.split()[2] for line in _shown(capsys)]


def test_keys_revoked_at_the_same_time_are_all_revoked(place):
    ids = [digit * 16 for digit in "0123456789"]
    running = []
    for key in ids:
        running.append(os.fork())
        if not running[-1]:
            revoke(key)
            os._exit(0)
    assert [os.waitpid(pid, 0)[1] for pid in running] == [0] * len(ids)
    assert revoked_ids() >= set(ids)


def _shown(capsys) -> list[str]:
    capsys.readouterr()
    assert main(["keys", "show"]) == 0
    return capsys.readouterr().out.splitlines()
