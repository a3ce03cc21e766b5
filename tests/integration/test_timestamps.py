"""Timestamps from the command line, with `openssl ts` as the authority and as the expert who checks."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import StorageError
from evidencesync.ssh.keys import load_signer
from evidencesync.vault import ledger
from evidencesync.vault.timestamps import Answer, Who, attach
from evidencesync.vault.vault import Vault
from tests.integration.cli_program import ITEM, Done, Lab, schema_errors
from tests.support.authority import Authority, make_authority
from tests.support.time_server import Exchange, time_server

SIGN = ("--sign-key", "ana", "--examiner", "Ana")
TSR, TSQ = "manifest.jsonl.sig.tsr", "manifest.jsonl.sig.tsq"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Lab:
    require_program("openssl")
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


@pytest.fixture
def authority(lab: Lab) -> Authority:
    made = make_authority(intermediate=True)
    (lab.folder / "root.pem").write_bytes(made.root_pem)
    (lab.folder / "other.pem").write_bytes(make_authority("Other").root_pem)
    (lab.folder / "ca").mkdir()
    return made


def timestamp(lab: Lab, command: str, *arguments: str) -> Done:
    return lab.run("timestamp", command, "vault", *ITEM, *arguments)


def test_request_carried_away_answered_attached_shown_and_verified(lab: Lab, authority: Authority) -> None:
    asked = timestamp(lab, "request", "-o", "r.tsq", "--digest", "sha256", "--json")
    assert (asked.code, schema_errors(asked.document, "timestamp-request-output")) == (0, [])
    request = (lab.folder / "r.tsq").read_bytes()
    assert timestamp(lab, "request", "-o", "r.tsq").code == 2, "a request is never overwritten: its answer may be on its way"
    (lab.folder / "r.tsr").write_bytes(authority.answer(lab.folder / "ca", request))

    forgetful = {"EVIDENCESYNC_STATE": str(lab.folder / "r.tsr")}  # no folder: no head could be remembered there
    refused = lab.run("timestamp", "attach", "vault", *ITEM, "r.tsr", *SIGN, "--tsa-root", "root.pem", "--json", env=forgetful)
    assert (refused.code, refused.error["slug"], (lab.acquisition() / TSR).exists()) == (2, "remembered-heads", False)

    attached = timestamp(lab, "attach", "r.tsr", *SIGN, "--tsa-root", "root.pem", "--json")
    assert (attached.code, attached.err, schema_errors(attached.document, "timestamp-output")) == (0, "", [])
    token = attached.document["token"]
    assert (token["authority"], token["digest"], token["authority_checked"]) == ("CN=Clock authority", "sha256", True)
    assert (token["nonce"], token["imprint"]) == (asked.document["nonce"], asked.document["imprint"])
    assert attached.document["record"] == 3

    folder = lab.acquisition()
    assert (folder / TSQ).read_bytes() == request
    openssl = ["openssl", "ts", "-verify", "-CAfile", "../../../../../../root.pem", "-attime", str(int(time.time()))]
    for against in (["-data", "manifest.jsonl.sig"], ["-queryfile", TSQ]):
        judged = subprocess.run([*openssl, *against, "-in", TSR], cwd=folder, capture_output=True, text=True, check=False)
        assert (judged.returncode, judged.stdout) == (0, "Verification: OK\n"), judged.stderr

    shown = timestamp(lab, "show", "--json")
    assert (shown.code, schema_errors(shown.document, "timestamp-show-output")) == (0, [])
    assert shown.document["acquisitions"][0]["record"] == 3
    passed = lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp", "--json")
    assert (passed.code, schema_errors(passed.document, "verify-output")) == (0, [])
    assert [one["slug"] for one in passed.document["findings"]] == ["timestamp"]
    by_environment = lab.run("verify", "vault", "--require-timestamp", env={"EVIDENCESYNC_TSA_ROOT": "other.pem:root.pem"})
    assert by_environment.code == 0, by_environment.out
    assert lab.run("verify", "vault", "--tsa-root", "other.pem").code == 33
    assert lab.run("verify", "vault", "--require-timestamp").code == 2
    assert lab.run("verify", "vault").code == 0

    for name, said in (("checked", ["--tsa-root", "root.pem"]), ("unchecked", [])):
        assert lab.run("report", "vault", "--case", ITEM[1], "-o", f"{name}.html", *said).code == 0
        page = (lab.folder / f"{name}.html").read_text("utf-8")
        assert ("authority NOT CHECKED (no --tsa-root)" in page, "its authority was checked" in page) == (not said, bool(said))

    lab.write("more", b"a second acquisition")
    assert lab.push().code == 0, "the chain goes on after a record that is not about a transfer"
    assert lab.run("verify", "vault", "--tsa-root", "root.pem").code == 0
    assert lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp").code == 33
    assert [one["token"] is None for one in timestamp(lab, "show", "--json").document["acquisitions"]] == [False, True]
    assert timestamp(lab, "show", "--tsa-root", "other.pem").code == 33
    assert "existed at" in timestamp(lab, "show", "--acquisition", "1").out


def test_an_attachment_that_the_disk_cut_short_is_completed_by_the_same_command(
    lab: Lab, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was reserved, and not yet in its place: then it is the one that the next run would add."""
    assert timestamp(lab, "request", "-o", "r.tsq").code == 0
    (lab.folder / "r.tsr").write_bytes(authority.answer(lab.folder / "ca", (lab.folder / "r.tsq").read_bytes()))

    def refused(*_: object) -> None:
        raise StorageError("refused")

    vault = Vault.open(lab.folder / "vault")
    (name,) = vault.items()
    answer = Answer((lab.folder / "r.tsr").read_bytes(), (lab.folder / "r.tsq").read_bytes())
    who = Who(load_signer(str(lab.folder / "ana"), None, None), "Ana")
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(ledger, "put_record", refused)
        attach(vault, vault.item(name), 1, answer, who, None, at_ns=time.time_ns())
    assert "was begun" in (caught.value.hint or "")
    again = timestamp(lab, "attach", "r.tsr", *SIGN, "--tsa-root", "root.pem", "--json")
    assert (again.code, again.document["record"]) == (0, 3), again.err
    assert lab.run("verify", "vault").code == 0


def test_a_timestamp_that_was_lost_is_said_to_be_and_no_other_one_is_asked_for(lab: Lab, authority: Authority) -> None:
    assert timestamp(lab, "request", "-o", "r.tsq").code == 0
    (lab.folder / "r.tsr").write_bytes(authority.answer(lab.folder / "ca", (lab.folder / "r.tsq").read_bytes()))
    assert timestamp(lab, "attach", "r.tsr", *SIGN, "--tsa-root", "root.pem").code == 0
    for name, is_shown in ((TSQ, True), (TSR, False)):
        (lab.acquisition() / name).unlink()
        shown = timestamp(lab, "show", "--json")
        (one,) = shown.document["acquisitions"]
        assert (shown.code, one["record"], one["token"] is not None, one["problem"]["slug"]) == (33, 3, is_shown, "bad-timestamp")
        assert "is not there" in timestamp(lab, "show").out
    exchange = Exchange(lambda asked: authority.answer(lab.folder / "ca", asked))
    with time_server(exchange) as url:
        fetched = timestamp(lab, "fetch", "--tsa", url, *SIGN, "--json")
    assert (fetched.code, exchange.asked) == (33, [])
    assert "timestamp attach" in fetched.error["hint"]
    assert timestamp(lab, "request", "-o", "other.tsq").code == 33
    assert timestamp(lab, "attach", "r.tsr", *SIGN, "--tsa-root", "root.pem").code == 0
    assert lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp").code == 0


def test_a_settings_file_may_name_the_root(lab: Lab, authority: Authority) -> None:
    settings = lab.folder / "home" / ".config" / "evidencesync" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('tsa-root = "../../../root.pem"\n')
    assert lab.run("verify", "vault", "--require-timestamp").code == 33
    settings.write_text('tsa-root = "missing.pem"\n')
    assert lab.run("verify", "vault").code == 2


def test_an_authority_is_asked_over_the_network_and_told_a_digest_alone(lab: Lab, authority: Authority) -> None:
    exchange = Exchange(lambda asked: authority.answer(lab.folder / "ca", asked))
    with time_server(exchange) as url:
        wanted = ("--tsa", url, *SIGN, "--tsa-root", "root.pem")
        fetched = timestamp(lab, "fetch", *wanted, "--json")
        assert (fetched.code, schema_errors(fetched.document, "timestamp-output")) == (0, [])
        assert timestamp(lab, "fetch", *wanted).code == 33, "there is one already"
    assert len(exchange.asked) == 1
    assert (lab.acquisition() / TSQ).read_bytes() == exchange.asked[0]
    assert len(exchange.asked[0]) < 120
    assert lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp").code == 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_fetch_that_was_killed_is_completed_by_the_same_command(lab: Lab, authority: Authority, steps: int) -> None:
    """It asks again with the request that lies there, or attaches the answer that does: else no timestamp could ever follow."""
    exchange = Exchange(lambda asked: authority.answer(lab.folder / "ca", asked))
    own, chain = lab.folder / "vault" / "custody", lab.acquisition().parents[1] / "custody"
    with time_server(exchange) as url:
        wanted = ("--tsa", url, *SIGN, "--tsa-root", "root.pem")
        before = {name for folder in (own, chain) for name in folder.iterdir()}
        killed = lab.run("timestamp", "fetch", "vault", *ITEM, *wanted, env={"EVIDENCESYNC_STATE": str(lab.folder / "forgotten")})
        assert killed.code == 0
        request = (lab.acquisition() / TSQ).read_bytes()
        statement, record = (set(folder.iterdir()) - before for folder in (own, chain))
        for step in [statement, record, {lab.acquisition() / TSR}][:steps]:  # the last things that it did
            for file in step:
                file.unlink()

        if steps == 3:
            assert timestamp(lab, "request", "-o", "again.tsq").code == 0
            assert (lab.folder / "again.tsq").read_bytes() == request, "its answer is the only one that fits"
            (lab.acquisition() / TSQ).chmod(0o644)
            (lab.acquisition() / TSQ).write_bytes(
                bytes([request[0], request[1] - 3]) + request[2:-3]
            )  # it asks for no certificates
            foreign = timestamp(lab, "fetch", *wanted)
            assert (foreign.code, len(exchange.asked)) == (33, 1)
            (lab.acquisition() / TSQ).write_bytes(request)
        again = timestamp(lab, "fetch", *wanted)
        assert (again.code, len(exchange.asked)) == (0, 2 if steps == 3 else 1), again.err
        assert timestamp(lab, "fetch", *wanted).code == 33, "there is one now"
    assert (lab.acquisition() / TSQ).read_bytes() == request
    assert lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp").code == 0


def test_a_lying_or_broken_authority_leaves_nothing_behind(lab: Lab, authority: Authority) -> None:
    answers: list[tuple[Callable[[bytes], bytes], int]] = [
        (lambda _: b"<html>", 33),
        (lambda _: authority.forge(b"other bytes", time.time_ns()), 33),
        (lambda _: authority.forge((lab.acquisition() / "manifest.jsonl.sig").read_bytes(), time.time_ns(), nonce=1), 33),
        (lambda asked: make_authority("Other").answer(lab.folder / "ca", asked), 33),
    ]
    for answer, code in answers:
        with time_server(Exchange(answer)) as url:
            failed = timestamp(lab, "fetch", "--tsa", url, *SIGN, "--tsa-root", "root.pem", "--json")
            assert (failed.code, failed.error["slug"]) == (code, "bad-timestamp")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    gone = timestamp(lab, "fetch", "--tsa", nobody, *SIGN, "--json")
    assert (gone.code, gone.error["slug"]) == (20, "cannot-connect")
    assert timestamp(lab, "fetch", "--tsa", "file:///etc/passwd", *SIGN).code == 2
    assert not {TSR, TSQ} & {file.name for file in lab.acquisition().iterdir()}
    assert lab.run("verify", "vault").code == 0


def test_files_that_are_no_answers_and_keys_that_are_not_trusted_are_refused(lab: Lab, authority: Authority) -> None:
    assert timestamp(lab, "attach", "missing.tsr", *SIGN).code == 2
    (lab.folder / "huge.tsr").write_bytes(bytes(1 << 20))
    assert timestamp(lab, "attach", "huge.tsr", *SIGN).code == 33
    assert timestamp(lab, "request", "--acquisition", "2").code == 10
    assert timestamp(lab, "request", "--digest", "md5").code == 2
    assert timestamp(lab, "request").code == 0
    request = lab.folder / "2024-017-LAPTOP-1-0001.tsq"
    (lab.folder / "r.tsr").write_bytes(authority.answer(lab.folder / "ca", request.read_bytes()))
    lab.make_key("eve")
    assert timestamp(lab, "attach", "r.tsr", "--request", request.name, "--sign-key", "eve").code == 32
    done = timestamp(lab, "attach", "r.tsr", *SIGN)
    assert done.code == 0
    assert "no request to compare with" in done.err
    assert "no --tsa-root was given" in done.err
    assert "NOT CHECKED" in done.out
    assert not (lab.acquisition() / TSQ).exists()
    assert lab.run("verify", "vault", "--tsa-root", "root.pem").code == 0
