"""What a watch remembers: enough not to push again, and nothing that could keep it from pushing."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.errors import ConfigurationError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.localstate.watched import WatchedKey, WatchMemory

STATE = bytes(range(32))
NOW = "2026-11-23T12:00:00.000000Z"


def key(source: bytes = b"/ev\xff/\x1b[2J", vault: str = "ana@lab:/v", case: str = "2026/11", item: str = "E 1") -> WatchedKey:
    return WatchedKey(source, vault, ItemName(Title(case), Title(item)))


def remember(folder: Path, one: WatchedKey, number: int = 7) -> Path:
    memory = WatchMemory(folder, one)
    memory.require_usable()
    memory.remember(STATE, number, "ab" * 32, NOW)
    return folder / "watched" / one.file_name


def test_what_was_pushed_is_there_after_a_restart(tmp_path: Path) -> None:
    remember(tmp_path, key())
    remember(tmp_path, key(), 8)
    known = WatchMemory(tmp_path, key()).recall()
    assert known is not None
    assert (known.state, known.acquisition, known.pushed) == (STATE.hex(), 8, NOW)
    assert "\x1b" not in known.source


@pytest.mark.parametrize(
    "other",
    [key(source=b"/other"), key(vault="lab:/v"), key(case="2026"), key(item="E 2"), key(case="2026/11 / E", item="1")],
)
def test_another_source_vault_or_item_is_not_known(tmp_path: Path, other: WatchedKey) -> None:
    file = remember(tmp_path, key())
    assert WatchMemory(tmp_path, other).recall() is None
    file.rename(file.with_name(other.file_name))
    known = WatchMemory(tmp_path, other).recall()
    assert known is None or other.name == key().name  # the file says of which item it is


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    file = remember(tmp_path, key())
    whole = file.read_bytes()
    memory = WatchMemory(tmp_path, key())
    for data in (b"", whole[:-2], whole + b" ", whole.replace(b'"state"', b'"state":"x","state"'), bytes(2_000_000), b"\xff"):
        file.unlink()
        file.write_bytes(data)
        assert memory.recall() is None
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert memory.recall() is None
    file.unlink()
    file.mkdir()
    assert memory.recall() is None


def test_a_folder_that_cannot_be_used_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "watched").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be remembered"):
        WatchMemory(tmp_path, key()).require_usable()
