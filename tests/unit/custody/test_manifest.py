"""The manifest: what a writer writes is read, at any split; anything else is refused with our errors."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.documents import Clock, Earlier, ManifestFooter, ManifestHeader, Method, Origin, Person
from evidencesync.custody.manifest import (
    ManifestReader,
    decode_footer,
    decode_header,
    encode_continuation,
    encode_entry,
    encode_entry_lines,
    encode_footer,
    encode_header,
    read_manifest,
)
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError, PathEscapeError
from evidencesync.evidence.entry import Continuation, Entry, ReadError, Remark
from evidencesync.evidence.path import EvidencePath, from_json_fields, to_json_fields
from evidencesync.limits import LIST_CAP_PER_LINE, MAX_MANIFEST_LINE

FINGERPRINT = "SHA256:" + "A" * 43
FINISHED = "2024-06-01T12:00:00.000001Z"
DIGESTS: dict[str, Any] = {"blake3": "ab" * 32, "sha256": "cd" * 32}

HEADER = ManifestHeader(
    format="evidencesync-manifest/1",
    vault_id="0" * 32,
    vault_key=FINGERPRINT,
    case="2024/17 Ä",
    item="1",
    acquisition=1,
    session="1" * 32,
    previous_manifest_sha256=None,
    examiner=Person(name="Ana Novák", principal="ana@lab", key=FINGERPRINT),
    direction="push",
    digests_taken_at="source",
    source=Origin(host="laptop", operating_system="Linux", path="/evidence"),
    method=Method(tool="evidencesync", version="0", command_line=["push"], digests=["blake3"], filters=[], options={}),
    ssh=None,
    started="2024-06-01T10:00:00.000000Z",
    clock=Clock(utc_offset="+02:00"),
    notes=[],
)


def path_of(raw: bytes) -> dict[str, Any]:
    text, encoded = to_json_fields(raw)
    return {"path": text} if text is not None else {"path_b64": encoded or ""}


def evidence_path(entry: Entry) -> EvidencePath:
    return EvidencePath(from_json_fields(entry.path, entry.path_b64))


def file_at(raw: bytes, **more: Any) -> Entry:
    return Entry(type="file", **path_of(raw), size=3, **DIGESTS, **more)


def folder_at(raw: bytes) -> Entry:
    return Entry(type="directory", **path_of(raw))


ROOT = folder_at(b"")


def document(entries: Iterable[Entry], header: ManifestHeader = HEADER) -> bytes:
    """A manifest as a writer makes it."""
    tally = ManifestTally()
    lines = [encode_header(header)]
    for entry in entries:
        lines += encode_entry_lines(entry)
        tally.add(entry)
    return b"".join([*lines, encode_footer(tally.footer(FINISHED))])


def read(data: bytes) -> list[tuple[bytes, Entry | Continuation]]:
    return list(read_manifest([data], ManifestReader()))


def wrapped(*lines: bytes) -> bytes:
    """Lines between the header and no footer."""
    return encode_header(HEADER) + b"".join(line + b"\n" for line in lines)


ODD_NAMES = [
    b"a",
    b"a b",
    b"a\x01",
    b"a.txt",
    b"\xff\xfe",
    b"\n",
    b'"quoted"',
    b"back\\slash",
    "検証".encode(),
    "\u202e".encode(),
]


def sample() -> list[Entry]:
    flat = [file_at(b"dir/" + name) for name in sorted(ODD_NAMES)]
    unsorted = [
        ROOT,
        folder_at(b"dir"),
        *flat,
        folder_at(b"dir/z"),
        file_at(
            b"dir/z/deep", mode="0644", uid=0, gid=0, user="root", group="wheel", mtime="-1.000000000", inode="18", device="1"
        ),
        file_at(b"dir/zz", hardlink_to="dir/a", links=2),
        file_at(b"dir!"),  # sorts after what is in `dir`, though "!" is below "/"
        Entry(type="symlink", path="link", target="/etc/passwd"),
        Entry(type="symlink", path="link2", target_b64=base64.b64encode(b"\xff").decode()),
        Entry(type="fifo", path="pipe", xattrs={"security.selinux": "AAEC", "user.a": ""}),
        Entry(type="block-device", path="sda", device_number="8:0"),
        file_at(b"sparse", holes=[(0, 4096), (8192, 1)], read_errors=[ReadError(offset=1, length=512, errno=5, fill="zero")]),
        file_at(b"t", flags=["changed-while-read"]),
        Entry(type="file", path="unreadable", flags=["unreadable"], mode="0000"),
    ]
    return sorted(unsorted, key=lambda entry: evidence_path(entry).parts)


def test_a_manifest_comes_back_whole() -> None:
    entries = sample()
    reader = ManifestReader()
    checked = list(read_manifest([document(entries)], reader))
    assert [line for _, line in checked] == entries
    assert [raw for raw, _ in checked] == [evidence_path(entry).raw for entry in entries]
    assert reader.done
    assert reader.header == HEADER
    assert reader.footer is not None
    assert reader.footer.flags == {"changed-while-read": 1, "unreadable": 1}
    assert reader.footer.counts["symlink"] == 2
    assert reader.tally.contents == reader.footer.bytes // 3


@given(st.data())
def test_it_reads_the_same_at_any_split(data: st.DataObject) -> None:
    whole = document(sample())
    cuts = sorted(data.draw(st.sets(st.integers(min_value=0, max_value=len(whole)), max_size=12)))
    blocks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert list(read_manifest(blocks, ManifestReader())) == read(whole)


def test_it_reads_the_same_byte_by_byte() -> None:
    whole = document(sample())
    assert list(read_manifest((whole[i : i + 1] for i in range(len(whole))), ManifestReader())) == read(whole)


def test_every_cut_is_noticed() -> None:
    whole = document(sample()[:4])
    for end in range(len(whole)):
        with pytest.raises(EvidenceSyncError):
            read(whole[:end])


@pytest.mark.slow
def test_every_flipped_bit_is_harmless_or_noticed() -> None:
    """One bit changed anywhere: refused, or read as other values that the document's own digest will show."""
    whole = document(sample()[:4])
    refused = 0
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            try:
                read(bytes(changed))
            except EvidenceSyncError:
                refused += 1
    assert refused > len(whole) * 4


@given(st.binary(max_size=200), st.integers(min_value=0))
def test_any_bytes_raise_our_errors_only(data: bytes, at: int) -> None:
    whole = document(sample())
    at %= len(whole)
    for attempt in (data, data + b"\n", whole[:at] + data + whole[at:], encode_header(HEADER) + data + b"\n"):
        try:
            read(attempt)
        except EvidenceSyncError:
            continue


HOSTILE_LINES = {
    "nothing": b"",
    "space before": b' {"type":"directory","path":"x"}',
    "space inside": b'{"type":"directory", "path":"x"}',
    "fields in another order": b'{"path":"x","type":"directory"}',
    "duplicate key": b'{"type":"directory","path":"x","path":"x"}',
    "unknown field": b'{"type":"directory","path":"x","extra":1}',
    "null": b'{"type":"directory","path":"x","size":null}',
    "another spelling of a letter": b'{"type":"directory","path":"\\u0078"}',
    "surrogate": b'{"type":"directory","path":"\\ud800"}',
    "not UTF-8": b'{"type":"directory","path":"\xff"}',
    "newline in a name": b'{"type":"directory","path":"\\n"}',
    "escape in a name": b'{"type":"directory","path":"\\u001b"}',
    "bidirectional override": '{"type":"directory","path":"\u202e"}'.encode(),
    "base64 where text would do": b'{"type":"directory","path_b64":"eA=="}',
    "base64 with stray bits": b'{"type":"directory","path_b64":"/x=="}',
    "both paths": b'{"type":"directory","path":"x","path_b64":"/w=="}',
    "no path": b'{"type":"directory"}',
    "unknown type": b'{"type":"door","path":"x"}',
    "not a number": b'{"type":"directory","path":"x","links":NaN}',
    "float": b'{"type":"directory","path":"x","links":1.0}',
    "exponent": b'{"type":"directory","path":"x","links":1e2}',
    "negative zero": b'{"type":"directory","path":"x","links":-0}',
    "too large": b'{"type":"directory","path":"x","links":9007199254740992}',
    "huge": b'{"type":"directory","path":"x","links":' + b"9" * 10_000 + b"}",
    "deep": b'{"type":"directory","path":"x","xattrs":' + b"[" * 50_000 + b"}",
    "deep unknown": b'{"deep":' + b"[" * 50_000 + b"}",
    "array": b"[]",
    "text": b'"x"',
    "mode with a newline": b'{"type":"directory","path":"x","mode":"075\\n"}',
    "inode with a newline": b'{"type":"directory","path":"x","inode":"1\\n"}',
    "two inodes": b'{"type":"directory","path":"x","inode":"1\\n2"}',
    "empty inode": b'{"type":"directory","path":"x","inode":""}',
    "time in other digits": '{"type":"directory","path":"x","mtime":"١.000000000"}'.encode(),
    "time with a newline": b'{"type":"directory","path":"x","mtime":"1.000000000\\n"}',
    "upper-case digest": b'{"type":"file","path":"x","size":1,"blake3":"' + b"AB" * 32 + b'","sha256":"' + b"ab" * 32 + b'"}',
    "digest without the other": b'{"type":"file","path":"x","size":1,"blake3":"' + b"ab" * 32 + b'"}',
    "digests without a size": b'{"type":"file","path":"x","blake3":"' + b"ab" * 32 + b'","sha256":"' + b"ab" * 32 + b'"}',
    "file without digests": b'{"type":"file","path":"x","size":1}',
    "file changed, without digests": b'{"type":"file","path":"x","flags":["changed-while-read"]}',
    "folder with digests": b'{"type":"directory","path":"x","size":1,"blake3":"'
    + b"ab" * 32
    + b'","sha256":"'
    + b"ab" * 32
    + b'"}',
    "folder with a size": b'{"type":"directory","path":"x","size":1}',
    "folder with a target": b'{"type":"directory","path":"x","target":"y"}',
    "folder with holes": b'{"type":"directory","path":"x","holes":[[0,1]]}',
    "folder as a hard link": b'{"type":"directory","path":"x","hardlink_to":"a"}',
    "link without target": b'{"type":"symlink","path":"x"}',
    "link with an endless target": b'{"type":"symlink","path":"x","target":"' + b"y" * 4097 + b'"}',
    "hard link to what comes later": b'{"type":"fifo","path":"x","hardlink_to":"y"}',
    "fifo with a device number": b'{"type":"fifo","path":"x","device_number":"8:0"}',
    "malformed device number": b'{"type":"block-device","path":"x","device_number":"8"}',
    "inode flags that say nothing": b'{"type":"directory","path":"x","inode_flags":"00000000"}',
    "inode flags in capitals": b'{"type":"directory","path":"x","inode_flags":"0000001A"}',
    "inode flags of another length": b'{"type":"directory","path":"x","inode_flags":"10"}',
    "inode flags with a newline": b'{"type":"directory","path":"x","inode_flags":"0000010\\n"}',
    "empty flags": b'{"type":"fifo","path":"x","flags":[]}',
    "repeated flags": b'{"type":"fifo","path":"x","flags":["skipped","skipped"]}',
    "flags out of order": b'{"type":"fifo","path":"x","flags":["skipped","vanished"]}',
    "unknown flag": b'{"type":"fifo","path":"x","flags":["fine"]}',
    "escape in an owner": b'{"type":"fifo","path":"x","user":"\\u001b"}',
    "override in an owner": '{"type":"fifo","path":"x","group":"\u202e"}'.encode(),
    "empty owner": b'{"type":"fifo","path":"x","user":""}',
    "endless owner": b'{"type":"fifo","path":"x","user":"' + b"y" * 257 + b'"}',
    "no attributes": b'{"type":"fifo","path":"x","xattrs":{}}',
    "attributes out of order": b'{"type":"fifo","path":"x","xattrs":{"b":"","a":""}}',
    "attribute that is not base64": b'{"type":"fifo","path":"x","xattrs":{"a":"!"}}',
    "attribute with stray bits": b'{"type":"fifo","path":"x","xattrs":{"a":"/x=="}}',
    "attribute without a name": b'{"type":"fifo","path":"x","xattrs":{"":""}}',
    "further line of nothing": b'{"type":"continued","holes":[[0,1]]}',
    "further line that is empty": b'{"type":"continued"}',
    "root again": b'{"type":"directory","path":""}',
    "no such folder": b'{"type":"fifo","path":"no/x"}',
}


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_a_line_no_signer_writes_is_refused(name: str) -> None:
    reader = ManifestReader()
    reader.read_lines(wrapped(encode_entry(ROOT).rstrip()))
    with pytest.raises((MalformedDocumentError, PathEscapeError)) as caught:
        reader.read_lines(HOSTILE_LINES[name] + b"\n")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500
    with pytest.raises(MalformedDocumentError, match="after an error"):
        reader.read_lines(b'{"type":"directory","path":"x"}\n')


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_it_is_refused_as_well_in_the_middle_of_a_page(name: str) -> None:
    before, after = encode_entry(file_at(b"a")), encode_entry(file_at(b"z"))
    with pytest.raises((MalformedDocumentError, PathEscapeError)):
        ManifestReader().read_lines(wrapped(encode_entry(ROOT).rstrip()) + before + HOSTILE_LINES[name] + b"\n" + after)


@pytest.mark.parametrize("raw", ["..", "../x", "/etc", "a/../b", "a//b", "./a", "a/.", "a/", "/", "x" * 256])
def test_a_path_that_could_leave_the_root_is_an_escape(raw: str) -> None:
    for before in ([ROOT], [ROOT, file_at(b"!")], [ROOT, folder_at(b"a"), file_at(b"a/!")]):
        reader = ManifestReader()
        reader.read_lines(encode_header(HEADER) + b"".join(map(encode_entry, before)))
        with pytest.raises((PathEscapeError, MalformedDocumentError)):
            reader.read_lines(encode_entry(Entry(type="fifo", path=raw)))
    reader = ManifestReader()
    reader.read_lines(encode_header(HEADER) + encode_entry(ROOT))
    with pytest.raises(PathEscapeError):
        reader.read_lines(encode_entry(Entry(type="fifo", path=raw)))


@pytest.mark.parametrize("raw", [b"a\0b", b"\0", b"a/\0", b"\xff/..", b"\xff" * 256])
def test_so_it_is_in_base64(raw: bytes) -> None:
    for before in ([ROOT], [ROOT, file_at(b"!")]):
        reader = ManifestReader()
        reader.read_lines(encode_header(HEADER) + b"".join(map(encode_entry, before)))
        with pytest.raises((PathEscapeError, MalformedDocumentError)):
            reader.read_lines(encode_entry(Entry(type="fifo", path_b64=base64.b64encode(raw).decode())))


@pytest.mark.parametrize(
    "paths",
    [
        [b"b", b"a"],
        [b"a", b"a"],
        [b"a/x"],
        [b"a", b"a/x"],
        [b"d/", b"d/x"],
    ],
)
def test_the_order_of_the_walk_is_held(paths: list[bytes]) -> None:
    reader = ManifestReader()
    reader.read_lines(encode_header(HEADER) + encode_entry(ROOT))
    with pytest.raises((MalformedDocumentError, PathEscapeError)):
        reader.read_lines(b"".join(encode_entry(file_at(raw)) for raw in paths))


def test_a_folder_is_left_for_good() -> None:
    entries = [ROOT, folder_at(b"a"), folder_at(b"a/b"), file_at(b"a/c"), file_at(b"a/b/late")]
    with pytest.raises(MalformedDocumentError, match="out of order"):
        read(document(entries))
    with pytest.raises(MalformedDocumentError, match="folder that is not"):
        read(document([ROOT, folder_at(b"a"), folder_at(b"b"), file_at(b"b/a/x")]))


NAMES = st.binary(min_size=1, max_size=3).filter(lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b".."))


@pytest.mark.slow
@given(st.recursive(st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=25))
def test_any_tree_walked_in_order_is_accepted_and_any_swap_refused(tree: dict[bytes, Any] | None) -> None:
    entries = [ROOT]

    def walk(folder: dict[bytes, Any], above: bytes) -> None:
        for name in sorted(folder):
            raw = above + name
            if folder[name] is None:
                entries.append(file_at(raw))
            else:
                entries.append(folder_at(raw))
                walk(folder[name], raw + b"/")

    walk(tree or {}, b"")
    assert [line for _, line in read(document(entries))] == entries
    for at in range(1, len(entries) - 1):
        swapped = [*entries]
        swapped[at : at + 2] = [entries[at + 1], entries[at]]
        with pytest.raises(MalformedDocumentError):
            read(document(swapped))


def test_one_file_or_device_needs_no_root() -> None:
    reader = ManifestReader()
    assert len(list(read_manifest([document([file_at(b"disk.dd")])], reader))) == 1
    assert reader.single
    device = Entry(type="block-device", path="sda.img", size=3, **DIGESTS)
    assert read(document([device])) == [(b"sda.img", device)]
    for entries in (
        [file_at(b"a"), file_at(b"b")],
        [file_at(b"a/b")],
        [folder_at(b"a")],
        [Entry(type="symlink", path="a", target="b")],
        [Entry(type="block-device", path="sda")],
        [ROOT, device],
        [Entry(type="fifo", path="")],
        [],
    ):
        with pytest.raises(MalformedDocumentError):
            read(document(entries))


# --- Further lines -----------------------------------------------------------------------------------------------------


def test_long_lists_go_on_in_further_lines() -> None:
    holes = [(i * 2, 1) for i in range(2 * LIST_CAP_PER_LINE + 1)]
    errors = [ReadError(offset=i, length=1, errno=5, fill="zero") for i in range(LIST_CAP_PER_LINE + 1)]
    attributes = {f"user.{i:05d}": base64.b64encode(b"v" * 60_000).decode() for i in range(12)}
    entry = file_at(b"a", holes=holes, read_errors=errors, xattrs=attributes)
    whole = document([ROOT, entry, file_at(b"b")])
    assert max(map(len, whole.split(b"\n"))) < MAX_MANIFEST_LINE
    checked = read(whole)
    lines = [line for raw, line in checked if raw == b"a"]
    assert len(lines) == len(checked) - 2 > 3
    assert [hole for line in lines for hole in line.holes or []] == holes
    assert [error for line in lines for error in line.read_errors or []] == errors
    assert {name: value for line in lines for name, value in (line.xattrs or {}).items()} == attributes


@pytest.mark.parametrize(
    "more",
    [
        Continuation(holes=[(0, 1)]),  # overlaps
        Continuation(holes=[]),
        Continuation(holes=[(10, 0)]),
        Continuation(holes=[(2**53 - 1, 1)]),
        Continuation(read_errors=[ReadError(offset=0, length=1, errno=5, fill="zero")]),  # the entry has none
        Continuation(xattrs={"a": ""}),
        Continuation(holes=[(10, 1)], xattrs={}),
    ],
)
def test_a_further_line_must_go_on_where_the_entry_ended(more: Continuation) -> None:
    data = encode_header(HEADER) + encode_entry(ROOT) + encode_entry(file_at(b"a", holes=[(0, 2)])) + encode_continuation(more)
    with pytest.raises(MalformedDocumentError):
        ManifestReader().read_lines(data)


@pytest.mark.parametrize("number", [-1, 65_536, 10**30])
def test_an_impossible_errno_is_refused(number: int) -> None:
    line = encode_entry(file_at(b"a", read_errors=[ReadError(offset=0, length=1, errno=5, fill="zero")]))
    changed = line.replace(b'"errno":5', b'"errno":%d' % number)
    with pytest.raises(MalformedDocumentError):
        ManifestReader().read_lines(encode_header(HEADER) + encode_entry(ROOT) + changed)


# --- Header and footer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"case": "../x"},
        {"case": " x"},
        {"item": "a\u202e"},
        {"notes": ["\x1b[2J"]},
        {"started": "2024-13-01T10:00:00.000000Z"},
        {"started": "٢٠٢٤-06-01T10:00:00.000000Z"},
        {"acquisition": 2},
        {"previous_manifest_sha256": "0" * 64},
        {"source": Origin(host="h", operating_system="o", path="a", path_b64="/w==")},
        {"source": Origin(host="h\n", operating_system="o")},
        {"method": msgspec.structs.replace(HEADER.method, command_line=["x"] * 20_001)},
        {"vault_id": "x"},
        {"notes": ["x" * 9000]},
    ],
)
def test_a_header_that_no_reader_would_take_is_not_written(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocumentError):
        encode_header(msgspec.structs.replace(HEADER, **changed))


def test_header_and_footer_are_whole_lines() -> None:
    line = encode_header(HEADER)
    assert decode_header(line) == HEADER
    for bad in (line[:-1], line + b"\n", b" " + line, b"", line.replace(b'"ssh":null,', b"")):
        with pytest.raises(MalformedDocumentError):
            decode_header(bad)
    footer = encode_footer(ManifestFooter(counts={"file": 1}, flags={}, bytes=0, finished=FINISHED))
    assert decode_footer(footer).counts == {"file": 1}
    with pytest.raises(MalformedDocumentError):
        decode_footer(footer[:-1])


@pytest.mark.parametrize(
    "changed",
    [
        {"counts": {"directory": 1, "file": 2}},
        {"counts": {"directory": 1}},
        {"counts": {"directory": 1, "file": 1}},
        {"counts": {"file": 1, "directory": 1, "fifo": 0}},
        {"flags": {"skipped": 1}},
        {"bytes": 4},
        {"remarks": {}},
        {"remarks": {"access-time-changed": 0}},
        {"remarks": {"access-time-changed": -1}},
        {"remarks": {"access-time-changed": 2**53}},
        {"remarks": {"listed-not-reached": 1, "access-time-changed": 1}},
        {"remarks": {"all is well": 1}},
        {"finished": "2024-02-30T12:00:00.000001Z"},
    ],
)
def test_a_footer_that_does_not_agree_is_refused(changed: dict[str, Any]) -> None:
    good = ManifestFooter(counts={"file": 1, "directory": 1}, flags={}, bytes=3, finished=FINISHED)
    body = encode_header(HEADER) + encode_entry(ROOT) + encode_entry(file_at(b"a"))
    assert read(body + encode_footer(good))
    with pytest.raises(MalformedDocumentError):
        read(body + encode_footer(msgspec.structs.replace(good, **changed)))


def test_a_footers_remarks_are_the_signers_own_words_and_are_kept() -> None:
    remarks: dict[Remark, int] = {"access-time-changed": 2, "listed-not-reached": 1}
    footer = ManifestFooter(counts={"directory": 1}, flags={}, bytes=0, finished=FINISHED, remarks=remarks)
    reader = ManifestReader()
    reader.read_lines(encode_header(HEADER) + encode_entry(ROOT) + encode_footer(footer))
    assert reader.finish().remarks == reader.tally.remarks == remarks
    assert b"remarks" not in encode_footer(ManifestTally().footer(FINISHED))


FIFTH = msgspec.structs.replace(HEADER, acquisition=5, previous_manifest_sha256="ab" * 32)


def test_a_footer_counts_what_was_not_read_again() -> None:
    entries = [ROOT, file_at(b"a", read_in=4), file_at(b"b"), file_at(b"c", read_in=2)]
    reader = ManifestReader()
    assert [line.read_in for _, line in read_manifest([document(entries, FIFTH)], reader) if isinstance(line, Entry)] == [
        None,
        4,
        None,
        2,
    ]
    assert reader.footer is not None
    assert reader.footer.earlier == Earlier(files=2, bytes=6, oldest=2)


@pytest.mark.parametrize(
    "wrong",
    [
        file_at(b"a", read_in=5),
        file_at(b"a", read_in=6),
        file_at(b"a", read_in=0),
        file_at(b"a", read_in=10_000),
        file_at(b"a", read_in=1, flags=["changed-while-read"]),
        file_at(b"a", read_in=1, flags=["unreadable"], read_errors=[ReadError(0, 1, 5, "zero")]),
        Entry(type="file", path="a", flags=["skipped"], read_in=1),
        Entry(type="directory", path="a", read_in=1),
        Entry(type="symlink", path="a", target="b", read_in=1),
    ],
)
def test_only_a_whole_file_of_an_earlier_acquisition_may_have_been_read_before(wrong: Entry) -> None:
    with pytest.raises(MalformedDocumentError):
        read(document([ROOT, wrong], FIFTH))


def test_nothing_was_read_before_a_first_acquisition() -> None:
    with pytest.raises(MalformedDocumentError):
        read(document([ROOT, file_at(b"a", read_in=1)]))


@pytest.mark.parametrize("stated", [None, Earlier(2, 3, 4), Earlier(1, 4, 4), Earlier(1, 3, 3), Earlier(0, 0, 1)])
def test_a_footer_that_counts_other_files_as_not_read_again_is_refused(stated: Earlier | None) -> None:
    entry = file_at(b"a", read_in=4)
    body = encode_header(FIFTH) + encode_entry(ROOT) + encode_entry(entry)
    footer = ManifestFooter({"file": 1, "directory": 1}, {}, 3, FINISHED, None, Earlier(1, 3, 4))
    assert read(body + encode_footer(footer))
    with pytest.raises(MalformedDocumentError):
        read(body + encode_footer(msgspec.structs.replace(footer, earlier=stated)))


def test_nothing_may_follow_the_footer() -> None:
    whole = document([ROOT])
    for more in (b"\n", encode_entry(file_at(b"a")), whole):
        with pytest.raises(MalformedDocumentError):
            read(whole + more)
        reader = ManifestReader()
        reader.read_lines(whole)
        with pytest.raises(MalformedDocumentError):
            reader.read_lines(more)


def test_a_line_longer_than_any_honest_one_is_refused_before_it_is_kept() -> None:
    def endless() -> Iterable[bytes]:
        yield encode_header(HEADER) + encode_entry(ROOT)
        for _ in range(100):
            yield b"x" * 65_536
        pytest.fail("went on reading")

    with pytest.raises(MalformedDocumentError, match="longer"):
        list(read_manifest(endless(), ManifestReader()))
    with pytest.raises(MalformedDocumentError, match="longer"):
        ManifestReader().read_lines(encode_header(HEADER) + b"x" * MAX_MANIFEST_LINE + b"\n")
