"""Writes an acquisition as a CASE/UCO 1.3 graph in JSON-LD, which other tools for investigations read.

Identifiers are UUIDs of version 5, made from the manifest's digest and the path: the same acquisition gives the same
identifiers. The graph states only what the manifest and the chain state, and not when it was exported. Source of all terms:
https://ontology.caseontology.org/ and https://ontology.unifiedcyberontology.org/ (version 1.3.0 of both).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.labels import entries_text
from evidencesync.custody.statements import ItemHistory
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.vault.ledger import iter_records

Node = dict[str, Any]

_UCO: Final = "https://ontology.unifiedcyberontology.org/uco/"
_CONTEXT: Final = {
    "case-investigation": "https://ontology.caseontology.org/case/investigation/",
    "uco-action": _UCO + "action/",
    "uco-core": _UCO + "core/",
    "uco-identity": _UCO + "identity/",
    "uco-location": _UCO + "location/",
    "uco-observable": _UCO + "observable/",
    "uco-tool": _UCO + "tool/",
    "uco-types": _UCO + "types/",
    "uco-vocabulary": _UCO + "vocabulary/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://ontology.caseontology.org/evidencesync-manifest/1")
_TIMES: Final = (
    ("mtime", "uco-observable:modifiedTime"),
    ("atime", "uco-observable:accessedTime"),
    ("ctime", "uco-observable:metadataChangeTime"),
    ("btime", "uco-observable:observableCreatedTime"),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_NS: Final = -62_135_596_800 * 10**9  # the year 1
_LAST_NS: Final = 253_402_300_800 * 10**9  # the year 10000
_encode: Final = msgspec.json.Encoder().encode


def graph_blocks(acquisition: AcquisitionReader) -> Iterator[bytes]:
    """Yields the document, one node on each line: first the nodes whose number is fixed, then one for each file."""
    graph = _Graph(acquisition)
    yield b'{"@context":' + _encode(_CONTEXT) + b',\n"@graph":[\n'
    for node in graph.nodes():
        yield _encode(node) + b",\n"
    yield from graph.provenance()
    for path, entry in acquisition.entries():
        if _is_shown(entry):
            yield b",\n" + _encode(graph.file(path, entry))
    yield b"\n]}\n"


class _Graph:
    """The nodes of one acquisition."""

    def __init__(self, acquisition: AcquisitionReader) -> None:
        self._acquisition = acquisition
        self._seed = uuid.uuid5(_NAMESPACE, acquisition.manifest_sha256).bytes

    def nodes(self) -> Iterator[Node]:
        """Case, people, tool, place, item, documents, and the act of acquiring."""
        acquisition, header = self._acquisition, self._acquisition.header
        name = f"{header.case} / {header.item}, acquisition {header.acquisition}"
        objects = [self._id("provenance-item"), self._id("provenance-acquisition"), self._id("action")]
        yield self._node("case", "case-investigation:Investigation", header.case, **{"uco-core:object": objects})
        yield from self._people()
        tool = header.method
        yield self._node("tool", "uco-tool:Tool", tool.tool, **{"uco-tool:version": tool.version})
        source = header.source
        place = source.path or (f"(base64) {source.path_b64}" if source.path_b64 else "")
        yield self._node("place", "uco-location:Location", source.host, f"{source.operating_system}; read from {place}")
        details = "; ".join(f"{one.name}: {one.value}" for one in self._history().known())
        yield self._node("item", "uco-observable:ObservableObject", header.item, details or None)
        item = self._id("item")
        yield self._node(
            "provenance-item",
            "case-investigation:ProvenanceRecord",
            f"{header.case} / {header.item}",
            **{"case-investigation:exhibitNumber": header.item, "uco-core:object": [item]},
        )
        yield self._document("manifest", "manifest.jsonl", acquisition.manifest_sha256)
        yield self._document("receipt", "receipt.json", acquisition.receipt_sha256)
        yield self._node(
            "action",
            "case-investigation:InvestigativeAction",
            "acquisition",
            f"{name}: {header.direction} into vault {header.vault_id}",
            **{
                "uco-action:performer": self._id("examiner"),
                "uco-action:instrument": [self._id("tool")],
                "uco-action:location": [self._id("place")],
                "uco-action:object": [item],
                "uco-action:result": [self._id("provenance-acquisition")],
                "uco-action:startTime": _typed("xsd:dateTime", header.started),
                "uco-action:endTime": _typed("xsd:dateTime", acquisition.footer.finished),
            },
        )

    def _people(self) -> Iterator[Node]:
        """The examiner, and the organisation that was stated."""
        person = self._acquisition.header.examiner
        about = [f"principal {person.principal}", f"SSH key {person.key}"]
        about += [f"{what} {text}" for what, text in (("role", person.role), ("organisation", person.organisation)) if text]
        yield self._node("examiner", "uco-identity:Person", person.name, "; ".join(about))
        if person.organisation:
            yield self._node("organisation", "uco-identity:Organization", person.organisation)
            yield self._node(
                "affiliation",
                "uco-core:Relationship",
                **{
                    "uco-core:source": self._id("examiner"),
                    "uco-core:target": self._id("organisation"),
                    "uco-core:isDirectional": True,
                    "uco-core:kindOfRelationship": "Affiliated_With",
                },
            )

    def provenance(self) -> Iterator[bytes]:
        """Yields the record of what was acquired. It names each file, and is too long to be held in memory."""
        header, footer = self._acquisition.header, self._acquisition.footer
        counts = entries_text(footer.counts, footer.flags)
        gaps = "; ".join(f"{flag} {count}" for flag, count in footer.flags.items())
        node = self._node(
            "provenance-acquisition",
            "case-investigation:ProvenanceRecord",
            f"{header.case} / {header.item}, acquisition {header.acquisition}",
            f"entries in the manifest: {counts}; files alone are listed here" + (f"; {gaps}" if gaps else ""),
            **{"case-investigation:exhibitNumber": header.item, "case-investigation:rootExhibitNumber": header.item},
        )
        first = [self._id("manifest"), self._id("receipt")]
        yield _encode(node)[:-1] + b',"uco-core:object":' + _encode(first)[:-1]
        for path, entry in self._acquisition.entries():
            if _is_shown(entry):
                yield b",\n" + _encode(self._id("file", path))
        yield b"]}"

    def file(self, path: bytes, entry: Entry) -> Node:
        """One file, with its digests where it has content."""
        shown, exact = _path_text(entry, path)
        facet: Node = {
            **self._id("file-facet", path),
            "@type": "uco-observable:FileFacet",
            "uco-observable:fileName": shown.rpartition("/")[2],
            "uco-observable:filePath": shown,
            "uco-observable:isDirectory": False,
        }
        for field, term in _TIMES:
            moment = _utc_time(getattr(entry, field))
            if moment is not None:
                facet[term] = _typed("xsd:dateTime", moment)
        facets = [facet]
        remarks = [f"path in base64: {exact}"] if exact else []
        remarks += [f"flags: {', '.join(entry.flags)}"] if entry.flags else []
        if entry.has_content:
            facet["uco-observable:sizeInBytes"] = entry.size
            facets.append(self._content(path, entry.size or 0, {"SHA256": entry.sha256 or "", "BLAKE3": entry.blake3 or ""}))
        node: Node = {**self._id("file", path), "@type": "uco-observable:File", "uco-core:hasFacet": facets}
        if remarks:
            node["uco-core:description"] = "; ".join(remarks)
        return node

    def _document(self, what: str, name: str, sha256: str) -> Node:
        facet = {**self._id("file-facet-of", what.encode()), "@type": "uco-observable:FileFacet"}
        facet |= {"uco-observable:fileName": name}
        content = self._content(b"\0" + what.encode(), None, {"SHA256": sha256})
        return self._node(what, "uco-observable:File", name, **{"uco-core:hasFacet": [facet, content]})

    def _content(self, path: bytes, size: int | None, digests: dict[str, str]) -> Node:
        facet: Node = {**self._id("content-facet", path), "@type": "uco-observable:ContentDataFacet"}
        if size is not None:
            facet["uco-observable:sizeInBytes"] = size
        facet["uco-observable:hash"] = [
            {
                **self._id("hash-" + method, path),
                "@type": "uco-types:Hash",
                "uco-types:hashMethod": _typed("uco-vocabulary:HashNameVocab", method) if method == "SHA256" else method,
                "uco-types:hashValue": _typed("xsd:hexBinary", value),
            }
            for method, value in digests.items()
        ]
        return facet

    def _node(self, what: str, kind: str, name: str | None = None, description: str | None = None, /, **more: Any) -> Node:
        node: Node = {**self._id(what), "@type": kind}
        if name is not None:
            node["uco-core:name"] = name
        if description is not None:
            node["uco-core:description"] = description
        return node | more

    def _id(self, what: str, path: bytes = b"") -> dict[str, str]:
        """A reference to a node: a UUID of version 5 (RFC 9562, 5.5) over the manifest's digest, the kind and the path."""
        digest = hashlib.sha1(self._seed + what.encode() + b"\0" + path, usedforsecurity=False).digest()
        return {"@id": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=5)}"}

    def _history(self) -> ItemHistory:
        item = self._acquisition.item
        history = ItemHistory(ChainSubject(item.vault_id, item.name.case.text, item.name.item.text))
        for stored in iter_records(item.ledger):
            history.add(stored.data)
        return history


def _is_shown(entry: Entry) -> bool:
    return entry.type == "file" or entry.has_content


def _path_text(entry: Entry, path: bytes) -> tuple[str, str | None]:
    """A path as text; where it is not clean UTF-8, escaped for display, and its exact bytes in base64."""
    return (entry.path, None) if entry.path is not None else (safe_text(path), entry.path_b64)


def _typed(kind: str, value: str) -> Node:
    return {"@type": kind, "@value": value}


def _utc_time(time: str | None) -> str | None:
    """A file's time as xsd:dateTime to the microsecond; None for years that readers cannot hold."""
    if time is None:
        return None
    nanoseconds = parse_file_time(time)
    if not _FIRST_NS <= nanoseconds < _LAST_NS:
        return None
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
