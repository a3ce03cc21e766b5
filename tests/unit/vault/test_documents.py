"""What is a document of a vault, by its path, and which of them are shown to who reads the vault from afar."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from evidencesync.evidence.identity import Title
from evidencesync.limits import MAX_KEPT_MANIFEST, MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.documents import WantedDocuments, document_limit, read_ends, wanted_documents
from tests.support.bench_of_evidence import make_bench

_PLACE = "cases/C1/I1"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "vault_key",
        "host_key",
        "vault_key.pub/x",
        "/vault.toml",
        "../vault.toml",
        "./vault.toml",
        "custody",
        "custody/",
        "custody/../vault_key",
        "custody/0001-made.json.sig.sig",
        "custody/1-made.json",
        "custody/0000001-made.json",
        "index/chunks.sqlite",
        "index/../vault_key",
        f"{_PLACE}/data/file",
        f"{_PLACE}/incoming/x/journal",
        f"{_PLACE}/acquisitions/0001/data/file",
        f"{_PLACE}/acquisitions/0001/SHA256SUMS",
        f"{_PLACE}/acquisitions/0000/manifest.jsonl",
        f"{_PLACE}/acquisitions/1/manifest.jsonl",
        f"{_PLACE}/acquisitions/0001/../0002/manifest.jsonl",
        f"{_PLACE}/custody/0001-acquired.json/x",
        "cases/../I1/custody/0001-acquired.json",
        "cases/C1/../custody/0001-acquired.json",
        "cases/.C1/I1/custody/0001-acquired.json",
        "cases/C1/I\x1b1/custody/0001-acquired.json",
        "cases//I1/custody/0001-acquired.json",
    ],
)
def test_keys_evidence_caches_and_ways_out_are_no_documents(path: str) -> None:
    assert document_limit(path) is None


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("custody/0001-made.json", MAX_RECORD),
        ("custody/0001-made.json.sig", MAX_SIGNATURE),
        (f"{_PLACE}/custody/0002-received.json", MAX_RECORD),
        (f"{_PLACE}/acquisitions/0001/manifest.jsonl", MAX_KEPT_MANIFEST),
        (f"{_PLACE}/acquisitions/0001/manifest.jsonl.sig", MAX_SIGNATURE),
        (f"{_PLACE}/acquisitions/9999/receipt.json", MAX_RECORD),
    ],
)
def test_a_document_has_the_limit_of_its_kind(path: str, limit: int) -> None:
    assert document_limit(path) == limit


def test_of_a_vault_all_documents_are_shown_and_nothing_else(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    (bench.source / "a").write_bytes(b"b" * 300_000)
    bench.push()
    layout = bench.vault.layout
    place = str(layout.item(bench.name).root.relative_to(layout.root))
    shown = {one.path: one.ends for one in wanted_documents(layout, WantedDocuments())}
    there = {str(path.relative_to(layout.root)) for path in layout.root.rglob("*") if path.is_file()}
    left_out = there - set(shown)
    assert set(shown) < there
    assert {path for path in left_out if path.startswith(("custody/", f"{place}/custody/"))} == set()
    may_be_left_out = re.compile(r"vault_key|index/.*|.*/data/.*|.*/(SHA256SUMS|BLAKE3SUMS|chunks\.bin)")
    assert all(map(may_be_left_out.fullmatch, left_out))
    assert [path for path, ends in shown.items() if ends] == [
        f"{place}/acquisitions/{number}/manifest.jsonl" for number in ("0001", "0002")
    ]
    case, item = bench.name.case, bench.name.item
    last = {one.path: one.ends for one in wanted_documents(layout, WantedDocuments(case, item, (0,)))}
    assert not last[f"{place}/acquisitions/0002/manifest.jsonl"]
    assert f"{place}/acquisitions/0002/chunks.bin" in last
    assert last[f"{place}/acquisitions/0001/manifest.jsonl"]
    assert not [one for one in wanted_documents(layout, WantedDocuments(case, Title("other"))) if one.path.startswith("cases/")]
    for near in (WantedDocuments(case, Title(f"{item.text}x")), WantedDocuments(Title(f"{case.text}x"))):
        told = [one.path for one in wanted_documents(layout, near) if one.path.startswith("cases/")]
        assert [path.rpartition("/")[0] for path in told] == [f"{place}/custody"] * 2  # the first record, and its signature


def test_an_item_s_chain_comes_before_its_acquisitions_and_after_the_vault_s(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    kinds = []
    for one in wanted_documents(bench.vault.layout, WantedDocuments()):
        folder = os.path.dirname(one.path).split("/")
        kind = "own" if folder == ["custody"] else folder[3] if len(folder) > 3 else ""
        if kind and kind not in kinds:
            kinds.append(kind)
    assert kinds == ["own", "custody", "acquisitions"]


@pytest.mark.parametrize(
    ("whole", "ends"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a\nb\n", b"a\nb\n"),
        (b"a\nbb\nccc\n", b"a\nccc\n"),
        (b"a\nb\ncut", b"a\ncut"),
        (b"cut", b"cut"),
    ],
)
def test_the_ends_of_a_document_are_its_first_and_its_last_line(whole: bytes, ends: bytes) -> None:
    assert read_ends(io.BytesIO(whole)) == ends
