"""Files of a vault that were removed, exchanged, copied, cut off or replaced: each is found for what it is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path
from typing import Final

import pytest

from evidencesync.custody.sshsig import sign_document
from tests.support.forger import Change
from tests.unit.vault.acquiring import Acquirer, item_name, new_vault
from tests.unit.verify.sample import ITEM, Made, edit
from tests.unit.verify.vectors import CUSTODY, FIRST, SECOND, Bad

ROWS: dict[str, Bad] = {}


def spoil(place: str, change: Change) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        data = (made.path / place).read_bytes()
        changed = change(data)
        assert changed != data
        edit(made.path / place, changed)

    return do


def cut(count: int | None) -> Change:
    return lambda data: data[:-count] if count is not None else data[: len(data) // 2]


TAILS: Final[dict[str, tuple[str, int]]] = {
    f"{SECOND}/manifest.jsonl": ("malformed-document", 32),
    f"{SECOND}/manifest.jsonl.sig": ("bad-signature", 32),
    f"{SECOND}/receipt.json": ("malformed-document", 32),
    f"{SECOND}/receipt.json.sig": ("bad-signature", 32),
    f"{SECOND}/SHA256SUMS": ("sums-differ", 30),
    f"{SECOND}/BLAKE3SUMS": ("sums-differ", 30),
    f"{SECOND}/chunks.bin": ("document-damaged", 30),
    f"{SECOND}/acquired.json": ("bad-signature", 32),
    f"{SECOND}/received.json.sig": ("bad-signature", 32),
    f"{CUSTODY}/0004-received.json": ("malformed-document", 32),
    f"{CUSTODY}/0004-received.json.sig": ("bad-signature", 32),
    f"{SECOND}/data/image.bin": ("file-truncated", 30),
    "custody/0001-made.json": ("malformed-document", 32),
    "custody/0001-made.json.sig": ("bad-signature", 32),
}
ROWS |= {
    f"cut off by {'half' if count is None else count}: {place}": Bad(spoil(place, cut(count)), slug, code, place)
    for place, (slug, code) in TAILS.items()
    for count in (1, None)
}


def remove(*places: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        for place in places:
            for file in (made.path / place).parent.glob((made.path / place).name):
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    return do


def exchange(one: str, other: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        first, second, aside = made.path / one, made.path / other, made.path.parent / "aside"
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    return do


def copy(one: str, other: str) -> Callable[[Made], object]:
    def do(made: Made) -> None:
        if (made.path / one).is_dir():
            shutil.copytree(made.path / one, made.path / other, symlinks=True)
        else:
            (made.path / other).unlink(missing_ok=True)
            shutil.copy2(made.path / one, made.path / other)

    return do


def same_size_and_time(made: Made) -> None:
    file = made.acquisition(2) / "data" / "logs" / "day 1.log"
    before = file.stat()
    edit(file, b"enil\n" * 1000)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_namespace(name: str, namespace: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        signer = made.examiner if name in ("manifest.jsonl", "acquired.json") else made.open().signer
        data = (made.acquisition(2) / name).read_bytes()
        edit(made.acquisition(2) / f"{name}.sig", sign_document(signer, namespace, sha512(data).digest()))

    return do


def from_elsewhere(*names: str) -> Callable[[Made], None]:
    """Documents of another item of the same vault, genuine and well signed."""

    def do(made: Made) -> None:
        acquirer = Acquirer(made.open(), made.examiner, item_name("2026/117", "4"))
        acquirer.acquire({b"x": b"x"})
        acquirer.acquire({b"x": b"y"})
        other = made.path / "cases" / "2026-117-2db29d5b" / "4"
        for name in names:
            edit(made.item / name, (other / name).read_bytes())

    return do


def from_another_vault(*names: str) -> Callable[[Made], None]:
    """Documents of an item of the same name in another vault, with the same examiner."""

    def do(made: Made) -> None:
        acquirer = Acquirer(new_vault(made.path.parent / "other", made.examiner), made.examiner)
        acquirer.acquire({b"x": b"x"})
        acquirer.acquire({b"x": b"y"})
        for name in names:
            edit(made.item / name, (made.path.parent / "other" / ITEM / name).read_bytes())

    return do


def of_the_first(*names: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        for name in names:
            edit(made.acquisition(2) / name, (made.acquisition(1) / name).read_bytes())

    return do


def pair(name: str) -> tuple[str, str]:
    return name, f"{name}.sig"


ROWS |= {
    "a record removed": Bad(remove(f"{CUSTODY}/0002-*"), "missing-record", 34, CUSTODY),
    "the first record removed": Bad(remove(f"{CUSTODY}/0001-*"), "missing-record", 34, CUSTODY),
    "two records removed": Bad(remove(f"{CUSTODY}/000[23]-*"), "missing-record", 34, CUSTODY),
    "records reordered": Bad(
        exchange(f"{CUSTODY}/0002-received.json", f"{CUSTODY}/0004-received.json"),
        "chain-broken",
        34,
        f"{CUSTODY}/0002-received.json",
    ),
    "a record twice": Bad(copy(f"{CUSTODY}/0002-received.json", f"{CUSTODY}/0003-received.json"), "chain-broken", 34, CUSTODY),
    "a record under another number": Bad(
        copy(f"{CUSTODY}/0001-acquired.json", f"{CUSTODY}/0003-acquired.json"),
        "chain-broken",
        34,
        f"{CUSTODY}/0003-acquired.json",
    ),
    "a record of another item": Bad(
        from_elsewhere(*pair("custody/0003-acquired.json")), "chain-broken", 34, f"{CUSTODY}/0003-acquired.json"
    ),
    "a first record of another vault": Bad(
        from_another_vault(*pair("custody/0001-acquired.json")), "chain-broken", 34, f"{CUSTODY}/0001-acquired.json"
    ),
    "a last record of another vault": Bad(
        from_another_vault(*pair("custody/0004-received.json")), "chain-broken", 34, f"{CUSTODY}/0004-received.json"
    ),
    "a manifest of another item": Bad(
        from_elsewhere(*pair("acquisitions/0002/manifest.jsonl")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
    "a manifest of another vault": Bad(
        from_another_vault(*pair("acquisitions/0002/manifest.jsonl")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
    "a manifest of another acquisition": Bad(
        of_the_first(*pair("manifest.jsonl")),
        "wrong-place",
        32,
        f"{SECOND}/manifest.jsonl",
    ),
    "a receipt of another item": Bad(
        from_elsewhere(*pair("acquisitions/0002/receipt.json")), "receipt-mismatch", 32, f"{SECOND}/receipt.json"
    ),
    "a receipt of another vault": Bad(
        from_another_vault(*pair("acquisitions/0002/receipt.json")), "wrong-signer", 32, f"{SECOND}/receipt.json.sig"
    ),
    "a receipt of another acquisition": Bad(
        of_the_first(*pair("receipt.json")),
        "receipt-mismatch",
        32,
        f"{SECOND}/receipt.json",
    ),
    "two files in each other's places": Bad(
        exchange(f"{SECOND}/data/logs.txt", f"{SECOND}/data/logs/day 1.log"), "file-extended", 30, f"{SECOND}/data/logs.txt"
    ),
    "a file of another acquisition": Bad(
        copy(f"{FIRST}/data/a.txt", f"{SECOND}/data/a.txt"), "file-truncated", 30, f"{SECOND}/data/a.txt"
    ),
    "other bytes of the same size and time": Bad(same_size_and_time, "file-damaged", 30, f"{SECOND}/data/logs/day 1.log"),
    "an acquisition too many": Bad(copy(SECOND, f"{ITEM}/acquisitions/0003"), "not-in-chain", 34, f"{ITEM}/acquisitions/0003"),
    "an acquisition far away": Bad(copy(SECOND, f"{ITEM}/acquisitions/0009"), "not-in-chain", 34, f"{ITEM}/acquisitions/0009"),
    "a gap in the numbers": Bad(
        lambda made: made.acquisition(2).rename(made.acquisition(3)),
        "missing-acquisition",
        34,
        f"{ITEM}/acquisitions/0002",
    ),
    "the first acquisition removed": Bad(remove(FIRST), "missing-acquisition", 31, FIRST),
    "acquisitions in each other's places": Bad(exchange(FIRST, SECOND), "wrong-place", 34, f"{SECOND}/manifest.jsonl"),
    "an acquisition without records": Bad(remove(f"{CUSTODY}/000[34]-*", f"{SECOND}/acquired.json*"), "not-in-chain", 34, SECOND),
    "an acquisition of another number's name": Bad(
        copy(SECOND, f"{ITEM}/acquisitions/2"), "extra-entry", 31, f"{ITEM}/acquisitions/2"
    ),
    "an acquisition numbered 0": Bad(copy(SECOND, f"{ITEM}/acquisitions/0000"), "extra-entry", 31, f"{ITEM}/acquisitions/0000"),
    "a case that is a file": Bad(lambda made: (made.path / "cases" / "x").write_bytes(b""), "extra-entry", 31, "cases/x"),
}
ROWS |= {
    f"{name} signed as {namespace}": Bad(
        other_namespace(name, f"{namespace}@evidencesync"), "bad-signature", 32, f"{SECOND}/{name}.sig"
    )
    for name, right in (("manifest.jsonl", "manifest"), ("receipt.json", "receipt"), ("acquired.json", "custody"))
    for namespace in ("manifest", "receipt", "custody", "session")
    if namespace != right
}


def fifo(place: Path) -> None:
    os.mkfifo(place)


def socket(place: Path) -> None:
    os.mknod(place, stat.S_IFSOCK | 0o644)  # bind(2) takes short paths only


def device(place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def link(place: Path) -> None:
    place.symlink_to("/dev/zero")


KINDS: Final[dict[str, Callable[[Path], None]]] = {"a FIFO": fifo, "a socket": socket, "a link": link, "a folder": Path.mkdir}
if os.geteuid() == 0:  # nobody else can make one
    KINDS["a device"] = device


def instead(place: str, make: Callable[[Path], None]) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        remove(place)(made)
        make(made.path / place)

    return do


DOCUMENTS: Final = ("manifest.jsonl", "manifest.jsonl.sig", "receipt.json", "SHA256SUMS", "chunks.bin", "acquired.json")
ROWS |= {
    f"{kind} among the files": Bad(
        instead(f"{SECOND}/data/logs/new", make),
        "wrong-type" if kind != "a folder" else "extra-entry",
        31,
        f"{SECOND}/data/logs/new",
    )
    for kind, make in KINDS.items()
}
ROWS |= {
    f"{kind} for a file": Bad(instead(f"{SECOND}/data/a.txt", make), "wrong-type", 31, f"{SECOND}/data/a.txt")
    for kind, make in KINDS.items()
}
ROWS |= {
    f"{kind} for {name}": Bad(instead(f"{SECOND}/{name}", make), "wrong-type", 31, f"{SECOND}/{name}")
    for kind, make in KINDS.items()
    for name in DOCUMENTS
}
ROWS |= {
    f"{kind} for a record": Bad(instead(f"{CUSTODY}/0002-received.json", make), "wrong-type", 31, f"{CUSTODY}/0002-received.json")
    for kind, make in KINDS.items()
}
ROWS |= {
    f"a file for the folder {place}": Bad(instead(place, lambda file: void(file.write_bytes(b""))), "wrong-type", code, place)
    for place, code in (
        (f"{SECOND}/data", 31),
        (f"{SECOND}/data/logs", 31),
        (f"{ITEM}/acquisitions", 31),
        (SECOND, 31),
        ("custody", 31),
    )
}


def void(_: object) -> None:
    return None


@pytest.mark.parametrize("name", ROWS)
def test_each_spoiled_vault_is_found_for_what_it_is(made: Made, name: str) -> None:
    ROWS[name].check(made)


MODES: Final = {f"mode {mode:04o}": mode for mode in (0o644, 0o464, 0o446, 0o544, 0o4444, 0o2444, 0o1444, 0o777)}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    "place", ["data/a.txt", "manifest.jsonl", "receipt.json.sig", "chunks.bin", "SHA256SUMS", "acquired.json"]
)
def test_modes_that_let_evidence_be_changed_or_run_are_warnings(made: Made, mode: int, place: str) -> None:
    (made.acquisition(2) / place).chmod(mode)
    verdict = made.audit()
    assert verdict.verdict == "pass"
    assert {(one.slug, one.path, one.severity) for one in verdict.findings} == {("unsafe-mode", f"{SECOND}/{place}", "warning")}
