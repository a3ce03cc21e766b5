"""What a killed command has left is removed by the next one: nothing in use, of others, or with another name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.files.drafts import draft_name, make_draft, make_draft_file, remove_left_drafts
from evidencesync.files.folders import remove_tree

PREFIX = ".evidencesync-restore-"


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def removed(parent: int) -> list[str]:
    return remove_left_drafts(parent, PREFIX, lambda name, _: remove_tree(parent, name))


def test_a_draft_is_removed_when_nobody_has_it_any_more(parent: int, tmp_path: Path) -> None:
    name = draft_name(PREFIX)
    fd = make_draft(parent, name)
    (tmp_path / name / "file").write_bytes(b"x")
    assert removed(parent) == []
    os.close(fd)
    assert removed(parent) == [name]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", [PREFIX + "0123", PREFIX + "0123456789abcdeF", PREFIX + "0123456789abcdef.old", "0123456789abcdef"]
)
def test_what_has_another_name_stays(parent: int, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert removed(parent) == []
    assert os.listdir(tmp_path) == [name]


def test_a_file_is_removed_when_nobody_has_it_any_more(parent: int, tmp_path: Path) -> None:
    name = draft_name(PREFIX)
    fd = make_draft_file(parent, name)
    assert removed(parent) == []
    os.close(fd)
    assert removed(parent) == [name]
    assert os.listdir(tmp_path) == []


def test_what_is_neither_folder_nor_file_stays(parent: int, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    os.mkfifo(tmp_path / f"{PREFIX}0123456789abcdef")
    (tmp_path / f"{PREFIX}fedcba9876543210").symlink_to("mine")
    assert removed(parent) == []
    assert len(os.listdir(tmp_path)) == 3


def test_what_is_another_users_stays(parent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{PREFIX}0123456789abcdef").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert removed(parent) == []
