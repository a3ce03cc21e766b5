"""Bits flipped one by one, all over a vault: never a pass, never an exception, and what was changed is named.

`make flips` changes one bit of every byte below `cases/` (of a large content: of many), all eight bits of every byte of the
documents, and all bits of the vault's own files, and prints the counts. The suite tries a sample, by SEED.
"""

from __future__ import annotations

import os
import random
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from evidencesync.verify.audit import audit_vault
from tests.support.flipped_bits import NOW_NS, Outcome, Place, files_below, flip_in_processes, make_small_vault, places

ALL: Final = os.environ.get("FLIPS", "") == "all"
JOBS: Final = int(os.environ.get("FLIP_JOBS", "1"))
SEED: Final = int(os.environ.get("SEED", "0"))
ONE: Final = range(0)
EIGHT: Final = range(8)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_small_vault(tmp_path_factory.mktemp("flips"))
    assert audit_vault(path, now_ns=NOW_NS).findings == []
    return path


def sampled(wanted: list[Place], sample: int) -> list[Place]:
    """So many places, of each file as many as of any other."""
    chance, by_file = random.Random(SEED), dict[tuple[str, ...], list[Place]]()
    for one in wanted:
        by_file.setdefault(one.names, []).append(one)
    share = -(-sample // len(by_file))
    found = [one for those in by_file.values() for one in chance.sample(those, min(share, len(those)))]
    return sorted(found, key=lambda one: (one.names, one.offset))


def flipped(vault: Path, wanted: list[Place], sample: int, tmp_path: Path, request: pytest.FixtureRequest) -> Outcome:
    if not ALL:
        wanted = sampled(wanted, sample)
    outcome = flip_in_processes(vault, wanted, JOBS if ALL else 1, tmp_path)
    assert outcome.flips == len(wanted)
    assert audit_vault(vault, now_ns=NOW_NS).findings == []
    if ALL:
        what = request.node.name.removeprefix("test_").replace("_", " ")
        text = (
            f"{outcome.flips} bits changed, {len(outcome.not_found)} not found, {len(outcome.misnamed)} blamed on something else"
        )
        capture: pytest.CaptureFixture[str] = request.getfixturevalue("capfd")
        with capture.disabled():
            request.config.get_terminal_writer().line(f"\n{what}: {text}")
    return outcome


def test_any_byte_of_the_evidence_is_found_in_its_file_and_range(
    vault: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = [one for names in files_below(vault, "cases") if "/data/" in names[0] for one in places(vault, names, ONE)]
    assert len(wanted) > 10_000
    outcome = flipped(vault, wanted, 30, tmp_path, request)
    assert outcome.not_found == []
    assert outcome.misnamed == []


def test_any_bit_of_any_document_is_found_and_named(vault: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted = [one for names in files_below(vault, "cases") if "/data/" not in names[0] for one in places(vault, names, EIGHT)]
    assert len(wanted) > 100_000
    assert len({one.names for one in wanted}) == 22
    outcome = flipped(vault, wanted, 66, tmp_path, request)
    assert outcome.not_found == []
    assert outcome.misnamed == []


@pytest.mark.parametrize("part", ["custody", "trusted_signers", "revoked_keys"])
def test_any_bit_of_the_vaults_own_records_and_lists_is_found_and_named(
    vault: Path, part: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = [one for names in files_below(vault, part) for one in places(vault, names, EIGHT)]
    outcome = flipped(vault, wanted, 12, tmp_path, request)
    assert outcome.flips
    assert outcome.not_found == []
    assert outcome.misnamed == []


def test_of_the_settings_only_what_no_document_states_can_change(
    vault: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Name, date, policy and what the file system can do are for people and for writers: nothing is judged by them."""
    wanted = [one for names in files_below(vault, "vault.toml") for one in places(vault, names, EIGHT)]
    outcome = flipped(vault, wanted, 40, tmp_path, request)
    assert outcome.misnamed == []
    data = (vault / "vault.toml").read_bytes()
    judged = re.compile(rb'^(format|id|key) = "[^"]*"', re.MULTILINE)
    spans = [match.span() for match in judged.finditer(data)]
    assert len(spans) == 3
    assert [one for one in outcome.not_found if any(start <= one.offset < end for start, end in spans)] == []
    before = tomllib.loads(data.decode())
    for one in outcome.not_found:
        changed = bytearray(data)
        changed[one.offset] ^= 1 << one.bit
        after = tomllib.loads(changed.decode())
        assert {name: after[name] for name in ("format", "id", "key")} == {name: before[name] for name in ("format", "id", "key")}


def test_of_the_public_key_only_its_comment_can_change(vault: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted = [one for names in files_below(vault, "vault_key.pub") for one in places(vault, names, EIGHT)]
    outcome = flipped(vault, wanted, 30, tmp_path, request)
    assert outcome.misnamed == []
    key = b" ".join((vault / "vault_key.pub").read_bytes().split()[:2])
    assert [one for one in outcome.not_found if one.offset < len(key)] == []


def test_the_private_key_is_not_judged(vault: Path) -> None:
    """A copy of a vault is checked without it. A damaged one cannot sign; that is for its next use to say."""
    key = vault / "vault_key"
    data = key.read_bytes()
    key.write_bytes(b"damaged")
    try:
        assert audit_vault(vault, now_ns=NOW_NS).findings == []
    finally:
        key.write_bytes(data)


def test_processes_share_the_work_and_lose_none_of_it(vault: Path, tmp_path: Path) -> None:
    """As `make flips` does it: what is not found, and what is, comes back from each of them."""
    (names,) = files_below(vault, "vault.toml")
    data = (vault / "vault.toml").read_bytes()
    title = data.index(b'name = "') + 8
    wanted = [Place(names, 0, 0), Place(names, title, 0), Place(names, title + 1, 0)]
    outcome = flip_in_processes(vault, wanted, 2, tmp_path)
    assert (outcome.flips, outcome.not_found, outcome.misnamed) == (3, wanted[1:], [])
