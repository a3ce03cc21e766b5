"""CASE/UCO: what the graph says, and that CASE's own validator takes it."""

from __future__ import annotations

import base64
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from evidencesync.evidence.entry import Entry
from evidencesync.export.run import Format
from evidencesync.source.filters import FilterRules
from tests.support.bench_of_evidence import Bench, make_bench
from tests.unit.export.exporting import (
    BROKEN_LINES,
    GOOD_NAMES,
    MISREAD,
    NOT_UTF8,
    case_program,
    export,
    make_deep,
    write_files,
)

OBSERVABLE = "uco-observable:"
ODD_NAMES = BROKEN_LINES | MISREAD | NOT_UTF8  # the others are in `good`


def read(file: Path) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads(file.read_bytes())["@graph"]
    return nodes


def by_type(nodes: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [node for node in nodes if node["@type"] == kind]


def file_nodes(nodes: list[dict[str, Any]]) -> dict[bytes, dict[str, Any]]:
    """The nodes of the evidence's files, by the exact bytes of their paths."""
    found = {}
    for node in by_type(nodes, "uco-observable:File"):
        if "uco-core:name" in node:
            continue  # a document
        description = node.get("uco-core:description", "")
        if description.startswith("path in base64: "):
            path = base64.b64decode(description.removeprefix("path in base64: ").split(";")[0], validate=True)
        else:
            path = node["uco-core:hasFacet"][0]["uco-observable:filePath"].encode()
        found[path] = node
    return found


def digests_of(node: dict[str, Any]) -> dict[str, str]:
    hashes = node["uco-core:hasFacet"][1]["uco-observable:hash"]
    methods = [one["uco-types:hashMethod"] for one in hashes]
    names = [method if isinstance(method, str) else method["@value"] for method in methods]
    return {name: one["uco-types:hashValue"]["@value"] for name, one in zip(names, hashes, strict=True)}


@pytest.fixture(scope="module")
def graph(good: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("graphs") / "case.jsonld"
    export(good, Format.CASE_UCO, made)
    return made


@pytest.fixture(scope="module")
def graph_of_odd_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd-names")
    bench = make_bench(folder)
    write_files(bench.source, ODD_NAMES)
    bench.push()
    export(bench, Format.CASE_UCO, folder / "graph.jsonld")
    return folder / "graph.jsonld"


@pytest.fixture(scope="module")
def graph_with_a_gap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a-gap")
    bench = make_bench(folder)
    write_files(bench.source, {b"there": b"x", b"left out": b"y"})
    bench.push(rules=FilterRules.from_patterns(["left out"]))
    entries: dict[bytes, Entry] = bench.entries(1)
    assert entries[b"left out"].flags == ["skipped"]
    export(bench, Format.CASE_UCO, folder / "graph.jsonld")
    return folder / "graph.jsonld"


@pytest.mark.slow
def test_case_takes_the_graphs_and_not_one_that_is_wrong(
    graph: Path, graph_of_odd_names: Path, graph_with_a_gap: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.jsonld"
    wrong.write_text(graph_with_a_gap.read_text("utf-8").replace('"uco-types:hashValue"', '"uco-types:hashes"'), "utf-8")
    (conforms, said), (wrong_conforms, _) = case_program([graph, graph_of_odd_names, graph_with_a_gap], [wrong])
    assert (conforms, wrong_conforms) == (True, False), said
    assert "Conforms: True" in said
    remarks = [line for line in said.splitlines() if line.strip().startswith("Message:")]
    assert set(remarks) == {"\tMessage: Value is outside the default vocabulary HashNameVocab."}  # BLAKE3, and nothing else


def test_each_file_is_there_with_the_digests_of_the_manifest(graph: Path, good: Bench) -> None:
    nodes = file_nodes(read(graph))
    entries = {path: entry for path, entry in good.entries(1).items() if entry.type == "file"}
    assert set(nodes) == set(entries)
    for path, entry in entries.items():
        assert digests_of(nodes[path]) == {"SHA256": entry.sha256, "BLAKE3": entry.blake3}
        assert nodes[path]["uco-core:hasFacet"][0]["uco-observable:sizeInBytes"] == entry.size


def test_the_records_lead_from_the_case_to_each_file(graph: Path) -> None:
    nodes = read(graph)
    ids = {node["@id"]: node for node in nodes}
    (case,) = by_type(nodes, "case-investigation:Investigation")
    (action,) = by_type(nodes, "case-investigation:InvestigativeAction")
    item, acquisition = by_type(nodes, "case-investigation:ProvenanceRecord")
    assert case["uco-core:name"] == "2026/11"
    assert [one["@id"] for one in case["uco-core:object"]] == [item["@id"], acquisition["@id"], action["@id"]]
    assert (item["case-investigation:exhibitNumber"], acquisition["case-investigation:exhibitNumber"]) == ("E1", "E1")
    assert action["uco-action:result"] == [{"@id": acquisition["@id"]}]
    assert ids[action["uco-action:performer"]["@id"]]["uco-core:name"] == "Ana"
    assert ids[action["uco-action:instrument"][0]["@id"]]["uco-core:name"] == "evidencesync"
    assert ids[action["uco-action:location"][0]["@id"]]["@type"] == "uco-location:Location"
    assert action["uco-action:startTime"]["@value"] <= action["uco-action:endTime"]["@value"]
    listed = {one["@id"] for one in acquisition["uco-core:object"]}
    assert listed == {node["@id"] for node in by_type(nodes, "uco-observable:File")}


def test_two_exports_are_the_same_and_two_acquisitions_share_no_id(
    good: Bench, graph: Path, bench: Bench, tmp_path: Path
) -> None:
    export(good, Format.CASE_UCO, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == graph.read_bytes()
    write_files(bench.source, {b"a": b"same"})
    bench.push()
    bench.push()
    for number in (1, 2):
        export(bench, Format.CASE_UCO, tmp_path / str(number), acquisition=number)
    first, second = ({node["@id"] for node in read(tmp_path / str(number))} for number in (1, 2))
    assert not first & second


def test_ids_are_uuids_of_version_5_and_each_is_used_once(graph: Path) -> None:
    found: list[str] = []

    def collect(node: object) -> None:
        if isinstance(node, dict):
            if "@type" in node and "@id" in node:
                found.append(node["@id"])
            for value in node.values():
                collect(value)
        elif isinstance(node, list):
            for value in node:
                collect(value)

    collect(read(graph))
    assert len(found) == len(set(found))
    assert {uuid.UUID(one).version for one in found} == {5}


def test_every_name_is_there_and_none_can_steer_a_terminal(graph: Path, graph_of_odd_names: Path) -> None:
    for one, names in ((graph, GOOD_NAMES), (graph_of_odd_names, ODD_NAMES)):
        assert set(file_nodes(read(one))) >= set(names)
        data = one.read_bytes()
        assert not set(data) & ({*range(32), 127} - {10})
        assert "\u202e" not in data.decode("utf-8")
    assert len(file_nodes(read(graph_of_odd_names))) == len(ODD_NAMES)


def test_times_that_readers_cannot_hold_are_left_out(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {b"early": b"", b"late": b"", b"ancient": b""})
    os.utime(bench.source / "early", ns=(0, -1))
    os.utime(bench.source / "late", ns=(0, 253_402_300_800 * 10**9))
    os.utime(bench.source / "ancient", ns=(0, -40_000_000_000 * 10**9))
    stored = (bench.source / "late").stat().st_mtime_ns, (bench.source / "ancient").stat().st_mtime_ns
    bench.push()
    export(bench, Format.CASE_UCO, tmp_path / "graph.jsonld")
    nodes = file_nodes(read(tmp_path / "graph.jsonld"))
    times = {path: node["uco-core:hasFacet"][0].get("uco-observable:modifiedTime") for path, node in nodes.items()}
    assert times[b"early"]["@value"] == "1969-12-31T23:59:59.999999Z"
    if stored[0] == 253_402_300_800 * 10**9:  # a file system that can hold it
        assert times[b"late"] is None
    if stored[1] == -40_000_000_000 * 10**9:
        assert times[b"ancient"]["@value"].startswith("0702-")


def test_a_file_without_content_is_told_with_its_flags(graph_with_a_gap: Path) -> None:
    node = file_nodes(read(graph_with_a_gap))[b"left out"]
    assert node["uco-core:description"] == "flags: skipped"
    assert len(node["uco-core:hasFacet"]) == 1


def test_a_path_longer_than_any_system_opens_is_there(bench: Bench, tmp_path: Path) -> None:
    path = make_deep(bench.source, 25)
    bench.push()
    export(bench, Format.CASE_UCO, tmp_path / "graph.jsonld")
    assert set(file_nodes(read(tmp_path / "graph.jsonld"))) == {path}
