"""The documents of an acquisition: each in every way in which a file can be spoiled, exchanged, or signed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.tamper.kinds import ANY, JSON, TEXT, TYPES, with_field
from tests.tamper.row import (
    NAMESPACES,
    Change,
    Deed,
    Row,
    Table,
    after,
    gone,
    linked_away,
    longer,
    made,
    mode,
    overwrite,
    put,
    signature_by,
    signed_by,
    spoiled,
    swapped,
    taken,
)
from tests.tamper.vault import CHAIN, FIRST, OTHER_FIRST, SECOND, Workshop

TABLE: Final = Table()
_add = TABLE.add


class Document(NamedTuple):
    """What verify says when the bytes of a document are not those that were signed: code and finding."""

    name: str
    code: int
    slug: str
    gone: int = 31
    gone_slug: str = "missing-document"


MALFORMED, SIGNATURE, DAMAGED, SUMS = "malformed-document", "bad-signature", "document-damaged", "sums-differ"
DOCUMENTS: Final = (
    Document("manifest.jsonl", 32, MALFORMED),
    Document("manifest.jsonl.sig", 32, SIGNATURE),
    Document("receipt.json", 32, MALFORMED),
    Document("receipt.json.sig", 32, SIGNATURE),
    Document("SHA256SUMS", 30, SUMS),
    Document("BLAKE3SUMS", 30, SUMS),
    Document("chunks.bin", 30, DAMAGED),
    Document("manifest.jsonl.sig.tsr", 33, "bad-timestamp", 33, "missing-timestamp"),
    Document("manifest.jsonl.sig.tsq", 33, "bad-timestamp", 33, "missing-timestamp"),
)
# The two records lie in the chain as well, in the same inode: they are judged there, too.
RECORDS: Final = (
    Document("acquired.json", 32, SIGNATURE),
    Document("acquired.json.sig", 32, SIGNATURE),
    Document("received.json", 32, SIGNATURE),
    Document("received.json.sig", 32, SIGNATURE),
)
SIGNED: Final = ("manifest.jsonl", "receipt.json", "acquired.json", "received.json")


def _every_way() -> None:
    for document in DOCUMENTS:
        place = f"{SECOND}/{document.name}"
        for kind, change in ANY.items():
            _add(f"{document.name} {kind}", Row(spoiled(place, change), document.code, document.slug, place))
    for document in RECORDS:
        place = f"{SECOND}/{document.name}"
        for kind in ("emptied", "cut off by a byte", "a bit changed"):
            deed = spoiled(place, ANY[kind], inode=False)
            _add(f"{document.name} of the acquisition {kind}", Row(deed, document.code, document.slug, place))
    for document in (*DOCUMENTS, *RECORDS):
        place = f"{SECOND}/{document.name}"
        _add(f"{document.name} removed", Row(gone(place), document.gone, document.gone_slug, place))
        if document.name != "manifest.jsonl.sig.tsq":
            _add(f"{document.name} is a link to itself elsewhere", Row(linked_away(place), 31, "wrong-type", place))
        code = 34 if document.name == "received.json" else document.code  # the chain has the same inode, and is stated
        _add(f"{document.name} is 32 GiB long", Row(longer(place), code, "", place))
    for name in ("manifest.jsonl", "manifest.jsonl.sig", "receipt.json", "SHA256SUMS", "chunks.bin", "acquired.json"):
        for kind, make in TYPES.items():
            _add(f"{name} is {kind}", Row(made(f"{SECOND}/{name}", make), 31, "wrong-type", f"{SECOND}/{name}"))


def _from_elsewhere() -> None:
    """Genuine documents, where they do not belong."""
    for document in (*DOCUMENTS, *RECORDS):
        if document.name.startswith("manifest.jsonl.sig.ts"):
            continue
        place = f"{SECOND}/{document.name}"
        _add(f"{document.name} of the acquisition before", Row(_copied(document.name, FIRST), document.code, "", place))
        if document.name != "chunks.bin":  # the same contents: the same recipes
            _add(f"{document.name} of another vault", Row(taken(place, of=lambda shop: shop.other), document.code, "", place))
            _add(f"{document.name} of another case", Row(_copied(document.name, OTHER_FIRST), document.code, "", place))
    for name in ("manifest.jsonl", "receipt.json", "acquired.json", "received.json"):
        both = after(_copied(name, FIRST), _copied(f"{name}.sig", FIRST))
        code = 34 if name in ("acquired.json", "received.json") else 32
        _add(f"{name} with its signature, of the acquisition before", Row(both, code, "", f"{SECOND}/{name}"))
    for name in ("manifest.jsonl.sig.tsr", "manifest.jsonl.sig.tsq"):
        _add(
            f"{name} beside another manifest", Row(_stamp_of(name), 33, "timestamp-not-recorded", f"{FIRST}/{name}", about=FIRST)
        )


def _copied(name: str, folder: str) -> Deed:
    return taken(f"{SECOND}/{name}", source=f"{folder}/{name}")


def _stamp_of(name: str) -> Deed:
    return taken(f"{FIRST}/{name}", source=f"{SECOND}/{name}")


def _recoded() -> None:
    """The same meaning in other bytes."""
    place = f"{SECOND}/receipt.json"
    for kind, change in (JSON | TEXT).items():
        _add(f"receipt.json {kind}", Row(spoiled(place, change), 32, MALFORMED, place))
    for name, slug, code in (("manifest.jsonl", MALFORMED, 32), ("SHA256SUMS", SUMS, 30), ("manifest.jsonl.sig", SIGNATURE, 32)):
        for kind, change in TEXT.items():
            _add(f"{name} {kind}", Row(spoiled(f"{SECOND}/{name}", change), code, slug, f"{SECOND}/{name}"))


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


def _other(name: str, value: object, line: int = 3) -> Change:
    """Another value in a line of the manifest, written as a signer writes it."""

    def change(lines: list[bytes]) -> list[bytes]:
        found = json.loads(lines[line])
        assert found.get(name) != value
        lines[line] = json.dumps({**found, name: value}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        return lines

    return _lines(change)


_CAPTURE: Final[dict[str, object]] = {
    "source": "standard-output",
    "started": "2026-11-28T12:00:00.000000Z",
    "ended": "2026-11-28T12:00:01.000000Z",
    "end": "end-of-data",
    "shell_command": "cat",
    "exit_status": 0,
}
MANIFESTS: Final[dict[str, Change]] = {
    "without its header": _lines(lambda lines: lines[1:]),
    "without its footer": _lines(lambda lines: lines[:-1]),
    "without an entry": _lines(lambda lines: lines[:3] + lines[4:]),
    "with an entry twice": _lines(lambda lines: lines[:4] + lines[3:]),
    "with two entries exchanged": _lines(lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]]),
    "with two headers": _lines(lambda lines: lines[:1] + lines),
    "with more after its footer": _lines(lambda lines: [*lines, lines[3]]),
    "with another digest": _other("blake3", "0123456789abcdef" * 4),
    "with another SHA-256": _other("sha256", "0123456789abcdef" * 4),
    "with another size": _other("size", 7777),
    "with another mode": _other("mode", 0o777),
    "with another owner": _other("uid", 4711),
    "with another time": _other("mtime", "1000000000.000000000"),
    "with another case": _other("case", "2026/12", 0),
    "with another examiner": _other("examiner", {"name": "Mal", "principal": "mal@lab", "key": "SHA256:" + "A" * 43}, 0),
    "with another note": _other("notes", ["never said"], 0),
    "with another count": _other("bytes", 1, -1),
    "with a path that escapes": _other("path", "../../../../etc/passwd"),
    "with an absolute path": _other("path", "/etc/passwd"),
    "with a file that an earlier acquisition is said to have read": _other("read_in", 1),
    "with a file that a later acquisition is said to have read": _other("read_in", 3),
    "with a file that is said to come from a command": _other("capture", _CAPTURE),
    "with a capture that ended before it began": _other("capture", {**_CAPTURE, "ended": "2025-11-28T12:00:00.000000Z"}),
    "with a capture that is cut and has no flag": _other("capture", {**_CAPTURE, "end": "link-lost"}),
    "with a capture of an exit status that none has": _other("capture", {**_CAPTURE, "exit_status": -1}),
}


# A record is in the chain by a hard link, and its signer is judged there.
IN_CHAIN: Final = {"acquired.json": f"{CHAIN}/0003-acquired.json", "received.json": f"{CHAIN}/0004-received.json"}
# Who is judged before it is asked whether he is the right one.
WRONG: Final = {("manifest.jsonl", who): slug for who, slug in {"carl": "wrong-signer"}.items()}


def _by_others() -> None:
    """Signed anew, by whoever may not."""
    for name in SIGNED:
        document, place = f"{SECOND}/{name}", f"{SECOND}/{name}.sig"
        right = "vault" if name in ("receipt.json", "received.json") else "ana"
        for who in ("mallory", "ben", "carl", "dora", "vault", "ana"):
            if who != right:
                found = IN_CHAIN.get(name, place)
                _add(f"{name} signed by {who}", Row(signed_by(document, who), 32, WRONG.get((name, who), "wrong-signer"), found))
        for purpose in ("session", "manifest", "receipt", "custody"):
            namespace = f"{purpose}@evidencesync"
            if namespace != NAMESPACES.get(name, "custody@evidencesync"):
                _add(f"{name} signed as a {purpose}", Row(signed_by(document, right, namespace), 32, SIGNATURE, place))
        _add(f"{name} signed as a file", Row(signed_by(document, right, "file"), 32, SIGNATURE, place))
        _add(f"{name} with two good signatures", Row(_two(document, right, right), 32, SIGNATURE, place))
        _add(f"{name} with a stranger's signature behind its own", Row(_two(document, right, "mallory"), 32, SIGNATURE, place))
        _add(f"{name} with its own signature behind a stranger's", Row(_two(document, "mallory", right), 32, SIGNATURE, place))
    place = f"{SECOND}/manifest.jsonl.sig"
    for kind, change in ARMOURS.items():
        _add(f"a signature {kind}", Row(spoiled(place, change), 32, SIGNATURE, place))


ARMOURS: Final[dict[str, Change]] = {
    "with a word before it": lambda data: b"Good signature\n" + data,
    "with a word after it": lambda data: data + b"Good signature\n",
    "in one line": lambda data: (
        data.replace(b"\n", b"").replace(b"-----U", b"-----\nU").replace(b"-----END", b"\n-----END") + b"\n"
    ),
    "without its last line": lambda data: data[: data.rindex(b"-----END")],
    "with spaces in it": lambda data: data.replace(b"AAAA", b"AA AA", 1),
    "with another label": lambda data: data.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
    "that is the public key": lambda data: b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n",
}


def _two(document: str, first: str, second: str) -> Deed:
    def do(shop: Workshop) -> None:
        both = b"".join(signature_by(shop, shop.vault / document, who) for who in (first, second))
        overwrite(shop.vault / f"{document}.sig", both)

    return do


def _rest() -> None:
    place = f"{SECOND}/manifest.jsonl"
    for kind, change in MANIFESTS.items():
        _add(f"a manifest {kind}", Row(spoiled(place, change), 32, "", place))
    for field, value in (("acquisition", 1), ("case", "2026/12"), ("vault_id", "0" * 32), ("points.disk.taken", False)):
        deed = spoiled(f"{SECOND}/receipt.json", with_field(field, value))
        _add(f"a receipt with another {field}", Row(deed, 32, "", f"{SECOND}/receipt.json"))
    for name, bits in (("manifest.jsonl", 0o644), ("receipt.json", 0o446), ("chunks.bin", 0o4444), ("SHA256SUMS", 0o555)):
        _add(f"{name} of the mode {bits:04o}", Row(mode(f"{SECOND}/{name}", bits), 0, "unsafe-mode", f"{SECOND}/{name}"))
    for name in (
        "manifest.jsonl.bak",
        ".manifest.jsonl.swp",
        "README",
        "MANIFEST.JSONL",
        "sha256sums",
        "m\u0430nifest.jsonl",
        "a\x1b[31m",
    ):
        place = f"{SECOND}/{name}"
        _add(
            f"a file {name!r} beside the documents",
            Row(made(place, lambda file: put(file, b"x")), 31, "extra-entry", place, restore="made"),
        )
    _add(
        "a folder beside the documents",
        Row(made(f"{SECOND}/more", Path.mkdir), 31, "extra-entry", f"{SECOND}/more", restore="made"),
    )
    for name in ("SHA256SUMS", "BLAKE3SUMS"):
        place = f"{SECOND}/{name}"
        for kind, change in LISTS.items():
            _add(f"{name} {kind}", Row(spoiled(place, change), 30, SUMS, place))
    _add(
        "SHA256SUMS and BLAKE3SUMS exchanged",
        Row(swapped(f"{SECOND}/SHA256SUMS", f"{SECOND}/BLAKE3SUMS"), 30, SUMS, f"{SECOND}/SHA256SUMS"),
    )


LISTS: Final[dict[str, Change]] = {
    "without a line": _lines(lambda lines: lines[1:]),
    "with a line twice": _lines(lambda lines: lines[:1] + lines),
    "in another order": _lines(lambda lines: lines[::-1]),
    "with a file that is not there": _lines(lambda lines: [lines[0][:66] + b"data/not there\n", *lines]),
    "with a comment": lambda data: b"# checked\n" + data,
}

_every_way()
_from_elsewhere()
_recoded()
_by_others()
_rest()
