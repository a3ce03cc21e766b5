"""Encryption: what `age` itself opens, who can be a recipient, and that nothing lies on a disk in plain."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.errors import DigestMismatchError, NoSpaceError, UsageError
from evidencesync.export.encrypt import encrypt_blocks, load_recipients
from evidencesync.export.run import Format
from tests.conftest import find_program
from tests.support.bench_of_evidence import Bench
from tests.unit.export.exporting import bagit_program, export, files_below, make_deep, run, write_files


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ed` and `rsa` from ssh-keygen, `x` from age-keygen; each with its public part in NAME.pub."""
    find_program("age")
    folder = tmp_path_factory.mktemp("keys")
    for name, options in (("ed", ["-t", "ed25519"]), ("rsa", ["-t", "rsa", "-b", "3072"]), ("ecdsa", ["-t", "ecdsa"])):
        subprocess.run(["ssh-keygen", "-q", *options, "-N", "", "-C", name, "-f", folder / name], check=True)
    subprocess.run(["age-keygen", "-o", folder / "x"], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", folder / "x"], check=True, capture_output=True)
    (folder / "x.pub").write_bytes(b"# for the expert\n\n" + public.stdout)
    return folder


def opened(key: Path, file: Path) -> bytes:
    done = run("age", "--decrypt", "-i", key, file)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ed", "rsa", "x"])
def test_age_opens_an_encrypted_bag_and_it_is_the_bag(kind: str, keys: Path, good: Bench, tmp_path: Path) -> None:
    exported = export(good, Format.BAGIT, tmp_path / "out", load_recipients([str(keys / f"{kind}.pub")]))
    assert exported.name == "out.tar.age"
    assert exported.digest == hashlib.sha256((tmp_path / "out.tar.age").read_bytes()).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(opened(keys / kind, tmp_path / "out.tar.age"))) as archive:
        archive.extractall(tmp_path / "taken", filter="data")
    (bag,) = (tmp_path / "taken").iterdir()
    assert bag.name == "2026-11-e872422f_E1_0001"
    assert bagit_program(bag).returncode == 0
    export(good, Format.BAGIT, tmp_path / "plain")
    assert files_below(bag) == files_below(tmp_path / "plain")


def test_each_recipient_opens_it_and_nobody_else(keys: Path, good: Bench, tmp_path: Path) -> None:
    export(good, Format.HASHDEEP, tmp_path / "known", load_recipients([str(keys / "ed.pub"), str(keys / "rsa.pub")]))
    export(good, Format.HASHDEEP, tmp_path / "plain")
    for name in ("ed", "rsa"):
        assert opened(keys / name, tmp_path / "known.age") == (tmp_path / "plain").read_bytes()
    assert run("age", "--decrypt", "-i", keys / "x", tmp_path / "known.age").returncode != 0


def test_the_archive_is_the_same_each_time_and_any_tar_reads_it(keys: Path, good: Bench, tmp_path: Path) -> None:
    recipients = load_recipients([str(keys / "x.pub")])
    archives = []
    for name in ("a", "b.tar.age"):
        exported = export(good, Format.BAGIT, tmp_path / name, recipients)
        archives.append(opened(keys / "x", Path(exported.path)))
    assert archives[0] == archives[1]
    (tmp_path / "plain.tar").write_bytes(archives[0])
    (tmp_path / "taken").mkdir()
    done = run("tar", "--extract", "--no-same-owner", "--file", tmp_path / "plain.tar", folder=tmp_path / "taken")
    assert done.returncode == 0, done.stderr.decode()
    (bag,) = (tmp_path / "taken").iterdir()
    assert bagit_program(bag).returncode == 0


def test_very_long_paths_and_old_times_are_in_the_archive(keys: Path, bench: Bench, tmp_path: Path) -> None:
    path = make_deep(bench.source, 25).decode()
    write_files(bench.source, {b"old": b"x"})
    os.utime(bench.source / "old", ns=(0, -5_000_000_000))
    bench.push()
    export(bench, Format.BAGIT, tmp_path / "out", load_recipients([str(keys / "x.pub")]))
    with tarfile.open(fileobj=io.BytesIO(opened(keys / "x", tmp_path / "out.tar.age"))) as archive:
        members = {member.name.partition("/data/")[2]: member for member in archive if "/data/" in member.name}
    assert members[path].size == 4
    assert members["old"].mtime == -5


def test_recipients_are_known_by_their_fingerprints_each_once(keys: Path) -> None:
    given = [str(keys / "ed.pub"), (keys / "ed.pub").read_text(), str(keys / "x.pub")]
    shown = [one.fingerprint for one in load_recipients(given)]
    printed = run("ssh-keygen", "-l", "-f", keys / "ed.pub").stdout.decode().split()[1]
    assert shown == [printed, (keys / "x.pub").read_text().splitlines()[-1]]


@pytest.mark.parametrize("given", ["age1qqqq", "ssh-ed25519 AAAA", "nobody", "", "/", "ssh-rsa", "x\0y", "\x1b[31m"])
def test_what_is_no_recipient_is_a_usage_error(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        load_recipients([given])
    assert "\x1b" not in refused.value.message


def test_a_key_that_age_does_not_seal_for_is_refused(keys: Path) -> None:
    with pytest.raises(UsageError, match=r"line 1 of .* is not a key"):
        load_recipients([str(keys / "ecdsa.pub")])


@pytest.mark.parametrize("name", ["ed", "x"])
def test_a_private_key_is_refused_and_not_repeated(name: str, keys: Path) -> None:
    secret = (keys / name).read_text()
    for given in (str(keys / name), secret):
        with pytest.raises(UsageError, match="private key") as refused:
            load_recipients([given])
        said = refused.value.message + (refused.value.hint or "")
        assert not any(line in said for line in secret.splitlines() if len(line) > 20 and not line.startswith(("#", "-")))


def test_a_file_without_recipients_and_one_that_is_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("# nobody\n\n")
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    for name in ("none", "large"):
        with pytest.raises(UsageError):
            load_recipients([str(tmp_path / name)])


def test_without_the_optional_part_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(UsageError) as refused:
        load_recipients(["age1"])
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("Install it: ")


def test_a_damaged_file_leaves_no_half_of_an_archive(keys: Path, bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {b"a": b"x" * 100_000, b"b": b"y"})
    bench.push()
    stored = bench.acquisition(1) / "data" / "b"
    stored.chmod(0o644)
    stored.write_bytes(b"z")
    with pytest.raises(DigestMismatchError):
        export(bench, Format.BAGIT, tmp_path / "out", load_recipients([str(keys / "x.pub")]))
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


def test_what_stops_the_reading_or_the_writing_comes_out_as_it_is(keys: Path) -> None:
    recipients = load_recipients([str(keys / "x.pub")])

    def interrupted() -> Iterator[bytes]:
        yield b"x" * 200_000
        raise KeyboardInterrupt

    class Full:
        def write(self, data: bytes, /) -> int:
            raise NoSpaceError("full")

    with pytest.raises(KeyboardInterrupt):
        encrypt_blocks(interrupted(), io.BytesIO(), recipients)
    with pytest.raises(NoSpaceError):
        encrypt_blocks([b"x" * 200_000], Full(), recipients)


def test_a_stream_of_any_length_takes_no_more_memory(keys: Path) -> None:
    recipients = load_recipients([str(keys / "x.pub")])

    class Nowhere:
        def write(self, data: bytes, /) -> int:
            return len(data)

    block = bytes(1 << 20)
    encrypt_blocks([block] * 4, Nowhere(), recipients)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encrypt_blocks((block for _ in range(256)), Nowhere(), recipients)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
