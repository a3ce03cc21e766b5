"""Whatever a trusted sender makes up: what the vault takes, verify passes, and every reader of manifests reads.

The other side, that readers refuse what verify refuses, is `tests/security/test_hard_links_that_lie.py`.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from evidencesync.compare.manifest_file import ManifestFile
from evidencesync.custody.documents import Clock, Origin, SshPeer
from evidencesync.custody.manifest import encode_entry_lines, encode_footer
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol.messages import Published
from evidencesync.report.manifests import survey
from evidencesync.verify.audit import audit_vault, verified_manifest
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_client import MOMENT, ROOT, HostileClient, entry_of
from tests.support.moments import LONG_AFTER_NS
from tests.support.soak import often

NOW_NS = LONG_AFTER_NS
NAMES = (b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"e\xff", b"line\n", b"z" * 255)
TEXTS = st.sampled_from(("", "x", "root", "a b", "\u202e", "\x00", "caf\u00e9", "x" * 300, "x" * 9000))
MOMENTS = st.sampled_from((MOMENT, "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "2026-02-30T00:00:00.000000Z"))
TARGETS = ("a", "b", "d/a", "nothing", ".", "../a", "z" * 255)
NUMBERS = (0, 1, 2, 65_535, 2**32, 2**53 - 1, 2**53)
ODD: dict[str, tuple[Any, ...]] = {
    "mode": ("0644", "7777", "0"),
    "uid": NUMBERS,
    "links": NUMBERS,
    "size": NUMBERS,
    "user": ("root", "", "caf\u00e9", "\u202e", "x" * 300),
    "mtime": ("0.000000000", "-1.500000000", "99999999999999999999.000000000", "1.5"),
    "btime": ("0.000000000", "1e9"),
    "inode": ("0", "18446744073709551615", "01", "-1"),
    "hardlink_to": TARGETS,
    "hardlink_to_b64": ("ZP8=", "YQ=="),
    "target": TARGETS,
    "device_number": ("1:3", "1:5", "1"),
    "inode_flags": ("00000010", "00000000"),
    "xattrs": ({"user.a": "eA=="}, {"user.b": "eA", "user.a": "eA=="}, {"\n": ""}, {}),
    "holes": ([(0, 1)], [(5, 1), (0, 1)], [], [(0, 2**53)]),
    "read_errors": ([ReadError(0, 1, 5, "zero")], [ReadError(9, 0, 5, "skip")], [ReadError(0, 2**40, 5, "skip")]),
    "flags": (["changed-while-read"], ["unreadable"], ["vanished"], ["skipped"], [], ["skipped", "vanished"]),
    "blake3": ("0" * 64, None),
    "type": ("file", "directory", "symlink", "fifo", "socket", "block-device"),
}
CONTENTS = (b"", b"x", b"yy", b"x" * 200)


@st.composite
def sources(draw: st.DrawFn) -> list[tuple[Entry, bytes]]:
    """An honest source, of which one or two fields may be made up."""
    names = draw(st.sets(st.sampled_from(NAMES), max_size=6))
    names |= {name.rpartition(b"/")[0] for name in names if b"/" in name} | ({b"d"} if b"d/e/a" in names else set())
    found: list[tuple[Entry, bytes]] = []
    for name in sorted(names, key=lambda name: name.split(b"/")):
        found.append(_honest(draw, name, [one for one in found if one[0].type == "file"]))
    for _ in range(draw(st.integers(0, 2)) if found else 0):
        at, field = draw(st.integers(0, len(found) - 1)), draw(st.sampled_from(sorted(ODD)))
        entry, content = found[at]
        found[at] = msgspec.structs.replace(entry, **{field: draw(st.sampled_from(ODD[field]))}), content
    return found


def _honest(draw: st.DrawFn, name: bytes, files: list[tuple[Entry, bytes]]) -> tuple[Entry, bytes]:
    if name in (b"d", b"d/e"):
        return entry_of(name, "directory"), b""
    kind = draw(st.sampled_from(("file",) * 4 + ("symlink", "fifo", "character-device")))
    if kind == "file":
        first = draw(st.none() | st.sampled_from(files)) if files else None
        content = first[1] if first is not None else draw(st.sampled_from(CONTENTS))
        link = {} if first is None else {"hardlink_to": first[0].path, "hardlink_to_b64": first[0].path_b64}
        return entry_of(name, kind, content, **link), content
    return entry_of(name, kind, target="somewhere" if kind == "symlink" else None), b""


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "notes": st.lists(TEXTS, max_size=2),
        "started": MOMENTS,
        "direction": st.sampled_from(("push", "pull", "local")),
        "digests_taken_at": st.sampled_from(("source", "arrival")),
        "clock": st.sampled_from((Clock("+00:00", "-86400.000000000"), Clock("+99:99"), Clock("-00:00", "1.5"))),
        "source": st.sampled_from(
            (Origin("h", "x", "/e"), Origin("h", "", path_b64="/w=="), Origin("\x1b", "x"), Origin("", ""))
        ),
        "ssh": st.sampled_from((None, SshPeer("u", "h", 22, "SHA256:" + "A" * 43, {}))),
    },
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "time": MOMENTS,
        "details": st.dictionaries(TEXTS, TEXTS, max_size=3) | st.just({f"d{number}": "x" for number in range(150)}),
        "sequence": st.sampled_from((1, 2, 3)),
        "case": st.sampled_from(("2026/11", "other")),
        "acquisition": st.sampled_from((1, 2, None)),
    },
)


def seldom(changes: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly none: a single odd field is enough for a refusal, and then the others are not looked at."""
    return st.one_of(st.just({}), st.just({}), st.just({}), changes)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("both-sides"))


def offer(bench: Bench, source: list[tuple[Entry, bytes]], header: dict[str, Any], record: dict[str, Any]) -> int | None:
    """The number of the acquisition, if the vault's end has taken it."""
    client = HostileClient(bench)
    client.shake_hands()
    tally = ManifestTally()
    entries = [ROOT, *(entry for entry, _ in source)]
    for entry in entries:
        tally.add(entry)
    first = msgspec.json.encode(client.header(**header)) + b"\n"
    body, last = (
        b"".join(line for entry in entries for line in encode_entry_lines(entry)),
        encode_footer(tally.footer(header.get("started", MOMENT))),
    )
    contents = [content for entry, content in source if entry.blake3 is not None and content]
    client.send_page(0, first)
    client.send_page(1, body, contents=contents, with_files=bool(contents))
    client.send_page(2, last)
    manifest = first + body + last
    try:
        document = client.record(manifest, **record)
    except EvidenceSyncError:  # it could not even be written: then the honest one
        document = client.record(manifest)
    client.send(client.finish(manifest, document))
    try:
        return client.hear(Published).acquisition
    except (EvidenceSyncError, LinkLostError):
        client.ended()
        return None
    finally:
        client.link.close()


@settings(max_examples=often(20, 800), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(source=sources(), header=seldom(HEADERS), record=seldom(RECORDS))
def test_what_a_vault_takes_verify_passes_and_everybody_reads(
    bench: Bench, source: list[tuple[Entry, bytes]], header: dict[str, Any], record: dict[str, Any]
) -> None:
    bench = replace(bench, name=ItemName(bench.name.case, Title(secrets.token_hex(8))))  # short chains are read faster
    number = offer(bench, source, header, record)
    event("taken" if number is not None else "refused")
    if number is None:
        return
    root, case, item = bench.vault.layout.root, bench.name.case.text, bench.name.item.text
    verdict = audit_vault(root, case=case, item=item, acquisition=number, all_digests=True, now_ns=NOW_NS)
    assert [one for one in verdict.findings if one.severity == "error"] == []
    assert verdict.verdict == "pass"
    assert verified_manifest(root, bench.name, number, None, HeadMemory(root.parent / "heads"), NOW_NS)
    layout = bench.vault.layout.item(bench.name)
    assert survey(layout, number).problem is None
    with ManifestFile(layout.acquisition(number) / "manifest.jsonl") as read:
        assert len(list(read.entries(attributes=True))) == len(source) + 1


def test_the_vault_takes_some_of_them(bench: Bench) -> None:
    """Else the property would say nothing."""
    assert offer(bench, [(entry_of(b"a", content=b"x", hardlink_to=None), b"x")], {}, {}) is not None
