"""A file that a person names is read once and bounded, and nobody is waited for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.cli.acquire import FilterChoice
from evidencesync.cli.details_choice import read_case_file
from evidencesync.cli.settings import LoadedSettings, load_settings
from evidencesync.cli.trust_files import load_public_key, load_roots, load_trusted
from evidencesync.errors import ConfigurationError, EvidenceSyncError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode
from evidencesync.export.encrypt import load_recipients
from evidencesync.home import read_named, require_regular, whose_place
from evidencesync.ssh.address import Address
from evidencesync.ssh.keys import load_signer
from evidencesync.ssh.options import SshOptions, parse_program
from evidencesync.ssh.route import find_route
from evidencesync.ssh.server import _read_authorized_keys, load_host_key
from tests.support.patience import PATIENCE_SECONDS


def in_time(work: Callable[[], object]) -> object:
    """What comes of it, or the error; a test that would wait for ever fails."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except (OSError, EvidenceSyncError) as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert found
    return found[0]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 5000])
@pytest.mark.parametrize("again", [True, False])
def test_a_file_gives_what_is_in_it_and_one_byte_more_than_it_may_have(tmp_path: Path, size: int, *, again: bool) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert len(read_named(tmp_path / "file", 10, again=again)) == min(size, 11)


@pytest.mark.parametrize("again", [True, False])
def test_a_pipe_to_which_nobody_writes_is_not_waited_for(fifo: Path, *, again: bool) -> None:
    found = in_time(lambda: read_named(fifo, 10, again=again))
    assert isinstance(found, OSError)
    assert found.strerror == ("it is no regular file" if again else "it is a pipe, and nothing comes out of it")


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("size", [0, 1, 11, 5000])
def test_what_a_shell_gives_for_a_command_is_read_to_its_end(size: int, *, late: bool) -> None:
    reader, writer = os.pipe()
    name = Path(f"/proc/self/fd/{reader}")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(in_time(lambda: read_named(name, 10))))
    try:
        if late:
            thread.start()
        os.write(writer, bytes(size))
        os.close(writer)
        if not late:
            thread.start()
        thread.join(PATIENCE_SECONDS)
    finally:
        os.close(reader)
    assert len(found) == 1
    if size:
        assert found == [bytes(min(size, 11))]
    else:
        assert isinstance(found[0], OSError)


def test_devices_that_never_end_are_bounded_and_folders_are_refused(tmp_path: Path) -> None:
    assert in_time(lambda: read_named(Path("/dev/zero"), 10)) == bytes(11)
    assert in_time(lambda: read_named(Path("/dev/null"), 10)) == b""
    assert isinstance(in_time(lambda: read_named(tmp_path, 10)), OSError)


def test_what_another_program_would_read_for_ever_is_refused_before(tmp_path: Path, fifo: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for fine in ("file", "link", "missing", "file/below", "/dev/null"):
        require_regular(tmp_path / fine)
    for name in (fifo, tmp_path, Path("/dev/zero"), Path("/dev/full")):
        with pytest.raises(OSError, match="no regular file"):
            require_regular(name)


READERS: dict[str, Callable[[Path], object]] = {
    "-F": lambda file: find_route(Address.parse("host:/vault"), SshOptions(config=file)),
    "--ssh 'ssh -F'": lambda file: find_route(Address.parse("host:/vault"), SshOptions(program=parse_program(f"ssh -F {file}"))),
    "-i": lambda file: find_route(Address.parse("host:/vault"), SshOptions(identity=file)),
    "--known-hosts": lambda file: find_route(Address.parse("host:/vault"), SshOptions(known_hosts=file)),
    "--sign-key": lambda file: load_signer(str(file), None, None),
    "--host-key": load_host_key,
    "--authorized-keys": _read_authorized_keys,
    "--trusted": load_trusted,
    "PUBKEY": load_public_key,
    "--tsa-root": lambda file: load_roots(LoadedSettings(), [file]),
    "--case-file": lambda file: read_case_file(file, ItemName(Title("1"), Title("2"))),
    "--files-from": lambda file: FilterChoice(files_from=str(file)).rules(lambda _: None),
    "--config": lambda file: load_settings(str(file)),
    "--recipient": lambda file: load_recipients([str(file)]),
}


@pytest.mark.parametrize("option", READERS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/full"])
def test_no_option_that_names_a_file_reads_or_waits_for_ever(tmp_path: Path, fifo: Path, option: str, kind: str) -> None:
    file = {"fifo": fifo, "folder": tmp_path}.get(kind, Path(kind))
    found = in_time(lambda: READERS[option](file))
    assert isinstance(found, EvidenceSyncError)
    assert found.exit_code in {ExitCode.USAGE, ExitCode.KEY, ExitCode.SIGNATURE}


def test_a_configuration_out_of_a_pipe_is_refused_with_a_way_on(fifo: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        find_route(Address.parse("host:/vault"), SshOptions(config=fifo))
    assert "which a pipe (as of <(command)) cannot be" in (refused.value.hint or "")


def test_whose_a_hidden_place_is_is_said_by_the_folder_that_hides_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, look = tmp_path / "home" / "vault", os.stat

    def stat(path: bytes) -> os.stat_result:
        if path == os.fsencode(hidden):
            raise PermissionError
        return look(os.path.dirname(path))

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr("evidencesync.home.account_name", lambda number: "ana" if number == os.getuid() else "")
    assert whose_place(hidden) == f"{tmp_path / 'home'} belongs to ana"
