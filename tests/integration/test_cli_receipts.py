"""Receipts and remembered heads, as a user meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.cli_program import Lab, schema_errors


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    return made


def test_a_vault_that_was_put_back_is_34_everywhere_until_it_is_forgotten_on_purpose(lab: Lab) -> None:
    vault, backup = lab.folder / "vault", lab.folder / "backup"
    assert lab.push().code == 0
    shutil.copytree(vault, backup, symlinks=True)
    last = lab.push("--json").document
    assert last["manifest_kept"] is True
    assert last["vault_head_sha256"] == lab.run("list", "vault", "--json").document["vault_head_sha256"]
    assert lab.run("receipts", "check", "--vault", "vault").code == 0
    assert lab.run("verify", "vault", "--expect-head", last["vault_head_sha256"]).code == 0

    shutil.rmtree(vault)
    backup.rename(vault)
    refused = lab.push("--json")
    assert (refused.code, refused.error["slug"]) == (34, "rolled-back")
    assert last["chain_head_sha256"] in refused.error["message"]
    verified = lab.run("verify", "vault", "--json")
    assert (verified.code, {one["slug"] for one in verified.document["findings"] if one["severity"] == "error"}) == (
        34,
        {"older-copy"},
    )
    checked = lab.run("receipts", "check", "--vault", "vault", "--json")
    assert (checked.code, checked.document["verdict"]) == (34, "fail")
    assert schema_errors(checked.document, "receipts-check-output") == []
    # the first by what this machine remembers of the vault's own chain, the last by the receipt itself
    assert [[one["slug"] for one in found["problems"]] for found in checked.document["receipts"]] == [["rolled-back"]] * 2

    listed = lab.run("receipts", "list", "--json")
    assert listed.code == 0
    assert schema_errors(listed.document, "receipts-list-output") == []
    assert [one["acquisition"] for one in listed.document["receipts"]] == [1, 2]
    vault_id = listed.document["heads"][0]["vault_id"]
    assert lab.run("receipts", "forget-head", vault_id, answer="no\n").out == "forgot 0 chains\n"
    assert lab.push().code == 34
    forgotten = lab.run("receipts", "forget-head", vault_id, "--yes", "--json").document
    assert schema_errors(forgotten, "receipts-forget-head-output") == []
    assert forgotten["forgotten"] == 2
    assert lab.push().code == 0


def test_what_was_seen_and_an_older_copy_does_not_know_is_removed_and_not_just_unknown(lab: Lab) -> None:
    vault, backup = lab.folder / "vault", lab.folder / "backup"
    assert lab.push().code == 0
    lab.make_key("ben")
    assert lab.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab").code == 0
    shutil.copytree(vault, backup, symlinks=True)
    later = ("--case", "2024-018", "--item", "LATER")
    assert lab.run("push", "evidence", "vault", *later, "--sign-key", "ana").code == 0
    assert lab.run("trust", "revoke", "vault", "ben@lab", "--yes").code == 0
    assert lab.run("trust", "list", "vault").code == 0
    shutil.rmtree(vault)
    backup.rename(vault)
    shown = lab.run("trust", "list", "vault")
    assert (shown.code, "ben@lab" in shown.out, "this machine has seen" in shown.err) == (34, True, True)

    def codes() -> set[int]:
        lines = ["show vault", "diff vault 1 1", "restore vault copy", "custody show vault", "timestamp request vault -o query"]
        return {lab.run(*line.split(), *later).code for line in [*lines, "export vault bag --format bagit"]}

    assert codes() == {34}
    vault_id = lab.run("list", "vault", "--json").document["vault_id"]
    assert lab.run("receipts", "forget-head", vault_id, "--yes").code == 0
    assert (codes(), lab.run("trust", "list", "vault").code) == ({10}, 0)


def test_a_memory_that_is_damaged_stops_a_push_with_a_way_on(lab: Lab) -> None:
    state = lab.folder / "state"
    environment = {"EVIDENCESYNC_STATE": str(state)}
    assert lab.push(env=environment).code == 0
    (state / "heads").rename(lab.folder / "elsewhere")
    (state / "heads").symlink_to(lab.folder / "elsewhere")
    followed = lab.push("--json", env=environment)
    assert (followed.code, followed.error["slug"]) == (2, "remembered-heads")
    (state / "heads").unlink()
    (lab.folder / "elsewhere").rename(state / "heads")
    for file in (state / "heads").rglob("*.json"):
        file.write_bytes(file.read_bytes()[:-3])
    damaged = lab.push("--json", env=environment)
    assert (damaged.code, damaged.error["slug"]) == (2, "remembered-heads")
    assert "receipts forget-head" in damaged.error["hint"]
    assert lab.run("verify", "vault", env=environment).code == 3
    assert lab.run("receipts", "list", env=environment).code == 2
    checked = lab.run("receipts", "check", "--vault", "vault", "--json", env=environment)
    assert (checked.code, checked.document["verdict"]) == (3, "incomplete")
    assert [one["slug"] for one in checked.document["receipts"][0]["problems"]] == ["incomplete"]


def test_nothing_kept_is_not_there_and_never_a_pass(lab: Lab) -> None:
    assert lab.run("receipts", "check").code == 10
    nowhere = lab.run("receipts", "check", "nowhere")
    assert (nowhere.code, nowhere.out) == (10, "")
    assert nowhere.err.splitlines() == [
        "error: there is no folder nowhere",
        "hint: See which receipts are kept: evidencesync receipts list",
    ]
    assert lab.run("receipts", "list").out == "no receipts\n"
    assert lab.run("receipts", "forget-head", "..", "--yes").code == 10
    assert lab.run("receipts", "forget-head", "0" * 32, "--case", "x").code == 2


def test_a_folder_in_which_nothing_is_a_receipt_is_a_mistake_and_no_loss(lab: Lab) -> None:
    assert lab.push().code == 0
    for command in ("list", "check"):
        for place in ("vault", "."):
            done = lab.run("receipts", command, "--receipts", place, "--json")
            assert (done.code, done.error["slug"]) == (2, "usage"), done
            assert "none of them is a receipt" in done.error["message"]


def test_a_receipt_that_lost_most_of_its_documents_is_missing_them(lab: Lab) -> None:
    assert lab.push("--receipts", "kept").code == 0
    (receipt,) = (lab.folder / "kept").iterdir()
    for file in receipt.glob("*.json*"):
        file.unlink()
    assert lab.run("receipts", "check", "--receipts", "kept").code == 31


def test_receipts_that_a_person_sorts_into_folders_are_found_there(lab: Lab) -> None:
    for _ in range(3):
        assert lab.push("--receipts", "kept").code == 0
    kept = lab.folder / "kept"
    second, third = sorted(kept.iterdir())[1:]
    (kept / "2024" / "spring").mkdir(parents=True)
    second.rename(kept / "2024" / second.name)
    third.rename(kept / "2024" / "spring" / third.name)
    (kept / "notes of mine").mkdir()
    (kept / "notes of mine" / "text").write_bytes(b"x")
    for command in (("list",), ("check", "--vault", "vault")):
        done = lab.run("receipts", *command, "--receipts", "kept", "--json")
        assert done.code == 0, done
        assert [one["acquisition"] for one in done.document["receipts"]] == [2, 3, 1]
        assert "no receipt lies in 1 folder here" in done.err
        assert "notes of mine" in done.err
    named = lab.run(
        "receipts", "check", "kept", "--vault", "vault", "--json"
    )  # without --receipts: it is no receipt that lost all
    assert (named.code, [one["acquisition"] for one in named.document["receipts"]]) == (0, [2, 3, 1])
    for file in (kept / "2024" / second.name).glob("*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert lab.run("receipts", "check", "--receipts", "kept").code == 31


def test_receipts_that_cannot_be_looked_for_are_neither_there_nor_missing(lab: Lab) -> None:
    assert lab.push("--receipts", "kept").code == 0
    for command in ("list", "check"):
        for place in (lab.write("notes", b""), lab.folder / "evidence" / "notes" / "below"):
            done = lab.run("receipts", command, "--receipts", str(place), "--json")
            assert (done.code, done.error["slug"]) == (2, "usage"), done
        (lab.folder / "kept").chmod(0o000)
        closed = lab.run("receipts", command, "--receipts", "kept", "--json", unprivileged=True)
        (lab.folder / "kept").chmod(0o700)
        assert (closed.code, closed.error["slug"]) == (3, "incomplete"), closed


def test_signers_from_outside_judge_a_receipt(lab: Lab) -> None:
    assert lab.push().code == 0
    trusted = lab.folder / "signers"
    trusted.write_text(f"ana@lab {(lab.folder / 'ana.pub').read_text()}")
    assert lab.run("receipts", "check", "--trusted", "signers").code == 32
    with trusted.open("a") as file:
        file.write(f"lab {(lab.folder / 'vault' / 'vault_key.pub').read_text()}")
    passed = lab.run("receipts", "check", "--trusted", "signers")
    assert (passed.code, passed.out.splitlines()[-1]) == (0, "verdict: PASS")


def test_a_trust_change_and_a_new_index_state_all_heads(lab: Lab) -> None:
    assert lab.push().code == 0
    lab.make_key("ben")
    assert lab.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab").code == 0
    assert lab.run("reindex", "vault").code == 0
    records = sorted(file.name for file in (lab.folder / "vault" / "custody").glob("*.json"))
    assert records == ["0001-made.json", "0002-heads.json", "0003-trust-changed.json", "0004-heads.json", "0005-heads.json"]
