from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from evidencesync.source.filters import FilterRules
from evidencesync.source.root import own_folders
from evidencesync.source.walker import walk


def flags(root: Path, *folders: Path) -> dict[str, str | None]:
    rules = replace(FilterRules.none(), own=own_folders(os.fsencode(root), map(os.fsencode, folders)))
    return {os.fsdecode(found.path): found.flag for found in walk(root, rules)}


def test_only_the_folder_itself_is_left_out(tmp_path: Path) -> None:
    for name in ("home/own/in it", "home/other/own", "home/owner"):
        (tmp_path / name).mkdir(parents=True)
    found = flags(tmp_path / "home", tmp_path / "home/own", tmp_path / "elsewhere", tmp_path / "home", tmp_path)
    assert found == {"": None, "other": None, "other/own": None, "own": "skipped", "owner": None}


def test_it_is_left_out_where_it_lies_and_not_where_a_link_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "home/real").mkdir(parents=True)
    (tmp_path / "home/link").symlink_to("real")
    (tmp_path / "way in").symlink_to("home")
    expected = {"": None, "link": None, "real": "skipped"}
    assert flags(tmp_path / "home", tmp_path / "home/link") == expected
    assert flags(tmp_path / "way in", tmp_path / "home/real") == expected


def test_it_need_not_be_there_yet_and_a_file_of_its_name_is_evidence(tmp_path: Path) -> None:
    rules = replace(FilterRules.none(), own=own_folders(os.fsencode(tmp_path), [os.fsencode(tmp_path / "own")]))
    (tmp_path / "own").write_bytes(b"")
    assert [found.flag for found in walk(tmp_path, rules)] == [None, None]
    (tmp_path / "own").unlink()
    (tmp_path / "own").mkdir()
    assert [found.flag for found in walk(tmp_path, rules)] == [None, "skipped"]


def test_the_header_names_it_safely(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb"
    rules = replace(FilterRules.none(), own=own_folders(os.fsencode(tmp_path), [os.fsencode(folder)]))
    assert rules.lines() == [f"own-folder {tmp_path}/a\\x0ab"]
