"""Pulls over SFTP alone, from OpenSSH's servers: nothing of ours runs at the other end."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.conftest import Sshd, make_key, running_sshd
from tests.support.proxy import Proxy, Trouble


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(3_000_000))
    made.write("empty", b"")
    for number in range(100):
        made.write(f"many/{number:03}", b"x" * number)
    return made


def options(sshd: Sshd) -> tuple[str, ...]:
    return (
        *("--agentless", "--sign-key", "ana", "-i", str(sshd.identity), "-p", str(sshd.port)),
        *("-F", "none", "--known-hosts", str(sshd.known_hosts)),
    )


@pytest.fixture(scope="module", params=["sftp-server", "internal-sftp"])
def sftp(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]
) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sftp")
    make_key(folder / "host_ed25519")
    server = require_program("/usr/lib/openssh/sftp-server") if request.param == "sftp-server" else "internal-sftp"
    with running_sshd(folder, require_program("sshd"), f"Subsystem sftp {server}\n") as running:
        yield running


def test_what_a_server_gives_is_acquired_and_verified(lab: Lab, sftp: Sshd) -> None:
    evidence = lab.folder / "evidence"
    os.symlink("/etc/passwd", evidence / "link")
    os.symlink(b"to\xff\n", evidence / "odd link")
    os.mkfifo(evidence / "fifo")
    (evidence / "notes.txt").chmod(0o640)
    os.utime(evidence / "notes.txt", (1_000_000_000.75, 1_100_000_000.25))
    odd = os.fsencode(evidence) + b"/odd\xff\x1b[31m\nname"
    with open(odd, "wb") as file:
        file.write(b"odd")
    arguments = ("pull", f"{sftp.user}@127.0.0.1:{evidence}", "vault", *ITEM, *options(sftp))
    first = lab.run(*arguments, "--json")
    assert first.code == 0, first
    assert schema_errors(first.document, "pull-output") == []
    assert first.document["files"] == 104
    ((listed,),) = (item["acquisitions"] for item in lab.run("list", "vault", "--json").document["items"])
    assert (listed["files"], listed["bytes"]) == (104, first.document["bytes"])
    header = lab.header(1)
    assert (header["direction"], header["digests_taken_at"]) == ("pull", "arrival")
    assert header["ssh"]["host_key"] == sftp.host_fingerprint
    lines = [json.loads(line) for line in (lab.acquisition(1) / "manifest.jsonl").read_bytes().splitlines()[1:-1]]
    entries = {line.get("path", line.get("path_b64")): line for line in lines}
    notes = entries["notes.txt"]
    assert (notes["mode"], notes["mtime"], notes["atime"]) == ("0640", "1100000000.000000000", "1000000000.000000000")
    assert not {"inode", "user", "group", "ctime", "device", "links"} & notes.keys()
    assert (entries["link"]["type"], entries["link"]["target"]) == ("symlink", "/etc/passwd")
    assert entries["odd link"]["target_b64"] == "dG//Cg=="
    assert entries["fifo"]["type"] == "fifo"
    assert (lab.acquisition(1) / "data" / "folder" / "image").read_bytes() == (evidence / "folder" / "image").read_bytes()
    with open(os.fsencode(lab.acquisition(1)) + b"/data/odd\xff\x1b[31m\nname", "rb") as file:
        assert file.read() == b"odd"
    receipt = json.loads((lab.acquisition(1) / "receipt.json").read_text())
    assert receipt["points"]["source"]["taken"] is False
    assert receipt["host_keys"]["sender"] == sftp.host_fingerprint

    assert (kept := Path(first.document["receipts"])).is_dir()
    assert (kept / "manifest.jsonl").read_bytes() == (lab.acquisition(1) / "manifest.jsonl").read_bytes()
    assert first.document["source_clock_ahead_seconds"] is None

    second = lab.run(*arguments, "--json")
    assert (second.code, second.document["literal_bytes"], second.document["wire_received"] > 3_000_000) == (0, 0, True)
    checked = lab.run("verify", "vault", "--json")
    assert checked.code == 0, checked
    found = [(finding["slug"], finding["severity"]) for finding in checked.document["findings"]]
    assert found == [("digested-on-arrival", "info")] * 2
    assert lab.run("receipts", "check", "--vault", "vault").code == 0


def test_a_source_compares_equal_to_what_sftp_could_tell_of_it(lab: Lab, sftp: Sshd) -> None:
    """Fractions of seconds and attributes were not told, and differ from nothing."""
    notes = lab.folder / "evidence" / "notes.txt"
    with contextlib.suppress(OSError):  # only where the system has attributes
        os.setxattr(notes, "user.of", b"nobody is told of it")
    os.utime(notes, (1_000_000_000.75, 1_100_000_000.25))
    source = f"{sftp.user}@127.0.0.1:{lab.folder}/evidence"
    assert lab.run("pull", source, "vault", *ITEM, *options(sftp)).code == 0
    manifest = str(lab.acquisition(1) / "manifest.jsonl")
    compared = lab.run("compare", manifest, "evidence", "--metadata")
    assert compared.code == 0, compared
    assert "taken over SFTP: no attributes, and times in whole seconds" in compared.out
    os.utime(notes, (1_000_000_000, 1_100_000_001))
    assert lab.run("compare", manifest, "evidence", "--metadata", "--json").document["metadata"]["time"] == 1


def test_a_link_that_breaks_is_made_again_as_often_as_retries_says(lab: Lab, sftp: Sshd) -> None:
    with Proxy(("127.0.0.1", sftp.port), troubles=[Trouble("reset", 1_000_000, "down")] * 3) as proxy:
        known_hosts = lab.folder / "known_hosts"
        known_hosts.write_text(sftp.known_hosts.read_text().replace(str(sftp.port), str(proxy.port)))
        far = ("-i", str(sftp.identity), "-p", str(proxy.port), "-F", "none", "--known-hosts", str(known_hosts))
        source = f"{sftp.user}@127.0.0.1:{lab.folder}/evidence"
        arguments = ("pull", source, "vault", *ITEM, "--agentless", "--sign-key", "ana", *far, "--json")
        given_up = lab.run(*arguments, "--retries", "0")
        done = lab.run(*arguments, "--retries", "3")
    assert (given_up.code, given_up.error["slug"]) == (23, "link-lost")
    assert (done.code, done.document["interruptions"], done.document["verdict"]) == (0, 2, "complete")
    image = lab.acquisition(1) / "data" / "folder" / "image"
    assert image.read_bytes() == (lab.folder / "evidence" / "folder" / "image").read_bytes()
    assert "Traceback" not in done.err
    assert "never retrieved" not in done.err


def test_what_is_wrong_on_the_way_has_the_code_that_it_has_for_every_command(
    lab: Lab, sftp: Sshd, tmp_path: Path, closed_port: int, keygen: Callable[..., Path]
) -> None:
    nobody, stranger = tmp_path / "no_hosts", keygen(tmp_path / "stranger")
    nobody.write_text("")
    other = tmp_path / "other_hosts"
    other.write_text(f"[127.0.0.1]:{sftp.port} {(tmp_path / 'stranger.pub').read_text()}")
    source = f"{sftp.user}@127.0.0.1:{lab.folder}/evidence"
    arguments = ("pull", source, "vault", *ITEM, "--agentless", "--sign-key", "ana", "-F", "none", "--retries", "0", "--json")
    ways = {
        (20, "cannot-connect"): (sftp.identity, closed_port, sftp.known_hosts),
        (21, "host-key-unknown"): (sftp.identity, sftp.port, nobody),
        (21, "host-key-changed"): (sftp.identity, sftp.port, other),
        (22, "authentication"): (stranger, sftp.port, sftp.known_hosts),
    }
    for expected, (identity, port, known_hosts) in ways.items():
        done = lab.run(*arguments, "-i", str(identity), "-p", str(port), "--known-hosts", str(known_hosts))
        assert (done.code, done.error["slug"]) == expected, done
        assert done.error["hint"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", "subsystem request failed"),
        ("Subsystem sftp /bin/echo what is this\n", "no SFTP session"),
        ("Subsystem sftp /no/such/program\n", "no SFTP session"),
        ("Subsystem sftp internal-sftp\nForceCommand echo no\n", "no SFTP session"),
    ],
)
def test_a_server_without_sftp_says_so(
    lab: Lab, tmp_path: Path, require_program: Callable[[str], str], settings: str, words: str
) -> None:
    (tmp_path / "sshd").mkdir()
    make_key(tmp_path / "sshd" / "host_ed25519")
    with running_sshd(tmp_path / "sshd", require_program("sshd"), settings) as sshd:
        source = f"{sshd.user}@127.0.0.1:{lab.folder}/evidence"
        done = lab.run("pull", source, "vault", *ITEM, *options(sshd), "--retries", "0", "--json")
    assert (done.code, done.error["slug"]) == (20, "cannot-connect"), done
    assert words in done.error["message"]
    assert "Subsystem sftp" in done.error["hint"]


@pytest.mark.parametrize("asked", [("--on-read-error", "zero"), ("--retries-changed", "1"), ("--one-file-system",)])
def test_what_sftp_cannot_do_is_refused_before_anything_is_asked_of_it(lab: Lab, asked: tuple[str, ...]) -> None:
    refused = lab.run("pull", "nowhere.invalid:/x", "vault", *ITEM, "--agentless", *asked, "--json")
    assert (refused.code, refused.error["slug"]) == (2, "usage")
    assert "need" in refused.error["message"]
