"""docs/verify-without-us.md: every command of the page is run, on a sound vault and on damaged ones.

The commands are taken out of the page, so that it cannot drift. Each step must fail for at least one kind of damage.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest

from evidencesync.custody.documents import CUSTODY_NAMESPACE, Person
from evidencesync.custody.record import decode_record, encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.trust import signer_line
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.report.volumes import REPORT_NAMESPACE
from evidencesync.vault.key_change import change_key
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.vault import Vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS
from tests.unit.verify.sample import edit, flip

PAGE: Final = Path(__file__).parents[2] / "docs" / "verify-without-us.md"
PROGRAMS: Final = ("bash", "ssh-keygen", "sha256sum", "b3sum", "openssl", "jq")
SETTINGS: Final = 1  # the step in which the reader says where everything is
RECEIPT_FILES: Final = ("receipt.json", "received.json", "manifest.jsonl.sig")


def blocks() -> list[tuple[int, str]]:
    """The page's commands: number of the step, and the text."""
    found = []
    for section in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        step = re.match(r"([0-9]+)\. ", section)
        for block in re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            assert step is not None
            found.append((int(step[1]), block))
    return found


@dataclass(frozen=True)
class Case:
    """What an expert has before him."""

    vault: Path
    expert: Path

    @property
    def item(self) -> Path:
        return self.vault / "cases" / "2024-017" / "LAPTOP-1"

    @property
    def acquisition(self) -> Path:
        return self.item / "acquisitions" / "0002"

    @property
    def custody(self) -> Path:
        return self.item / "custody"

    def run(self, block: str) -> subprocess.CompletedProcess[str]:
        """One block of the page, after the block that says where everything is (with this machine's folders)."""
        settings = blocks()[0][1]
        for name, value in (("VAULT", self.vault), ("EXPERT", self.expert), ("N", "0002")):
            settings, count = re.subn(rf"\b{name}=\S+", lambda _, name=name, value=value: f"{name}={value}", settings, count=1)  # type: ignore[misc]
            assert count == 1
        script = f"set -euo pipefail\n{settings}\n{block}"
        return subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE_SECONDS
        )

    def failed_steps(self, wanted: set[int]) -> set[int]:
        """Those of the wanted steps in which a block fails."""
        return {step for step, block in blocks() if step in wanted and self.run(block).returncode != 0}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Case:
    for program in PROGRAMS:
        require_program(program)
    folder = tmp_path_factory.mktemp("expert")
    bench = make_bench(folder)
    bench.name = ItemName(Title("2024-017"), Title("LAPTOP-1"))
    fill(bench.source)
    bench.push()
    (bench.source / "a.log").write_bytes(b"grown\n" * 2000)
    bench.push()
    record_report(bench)
    case = Case(bench.vault.layout.root, folder / "expert")
    bring(case, bench)
    return case


REPORT: Final = b"<!doctype html>"


def record_report(bench: Bench) -> None:
    """What `report --sign` adds to the item's chain."""
    ledger = bench.vault.item(bench.name).ledger
    last = ledger.load(ledger.files()[-1])
    details = {"report_format": "html", "report_sha256": sha256_of(REPORT).hex()}
    actor = Person("Ana", "ana@lab", bench.signer.public_key.fingerprint)
    record = msgspec.structs.replace(
        last.record,
        type="exported",
        sequence=last.record.sequence + 1,
        previous_sha256=last.sha256,
        acquisition=None,
        manifest_sha256=None,
        receipt_sha256=None,
        actor=actor,
        details=details,
    )
    ledger.append(*sign_record(record, bench.signer))


def fill(source: Path) -> None:
    (source / "a.log").write_bytes(b"line\n" * 1000)
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to("/etc/passwd")
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "nothing in it").mkdir()
    for name in (
        b"deep/er/x",
        b"deep/a name \\ with\nmuch\rin it",
        b"deep/\xff not UTF-8",
        "deep/名".encode(),
        b"deep/\x1b[31m",
        b"-rf",
    ):
        with open(os.fsencode(source) + b"/" + name, "wb") as file:
            file.write(name)
    with (source / "sparse.img").open("wb") as image:
        image.seek(300_000)
        image.write(b"end")


def bring(case: Case, bench: Bench) -> None:
    """What the expert has from elsewhere: keys, the examiner's receipts, an authority's certificate (and its stamp)."""
    case.expert.mkdir()
    allowed = ("manifest@evidencesync", "custody@evidencesync", "report@evidencesync")
    examiner = signer_line("ana@lab", bench.signer.public_key, allowed)
    vault = signer_line("vault", bench.vault.signer.public_key, ("receipt@evidencesync", "custody@evidencesync"))
    (case.expert / "trusted").write_text(f"{examiner}\n{vault}\n")
    (case.expert / "revoked").write_text("")
    (case.expert / "report.pdf").write_bytes(REPORT)
    (case.expert / "report.pdf.sig").write_bytes(sign_document(bench.signer, REPORT_NAMESPACE, sha512_of(REPORT)))
    receipts = case.expert / "receipts"
    receipts.mkdir()
    for name in RECEIPT_FILES:
        shutil.copy(case.acquisition / name, receipts / name)
    stamp(case, case.acquisition / "manifest.jsonl.sig")


AUTHORITY: Final = """
[ tsa ]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
[ extensions ]
extendedKeyUsage = critical, timeStamping
"""


def stamp(case: Case, signed: Path) -> None:
    """An authority of our own stamps a signature, with openssl."""
    folder = case.expert / "authority"
    folder.mkdir()
    (folder / "tsa.cnf").write_text(AUTHORITY)
    (folder / "serial").write_text("01\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=A root", "-days", "30")
    openssl("req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=A time stamping authority")
    issue = ("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20")
    openssl(*issue, "-extfile", "tsa.cnf", "-extensions", "extensions", "-out", "tsa.pem")
    openssl("ts", "-query", "-data", str(signed), "-sha512", "-cert", "-out", f"{signed}.tsq")
    reply = ("ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", f"{signed}.tsq")
    openssl(*reply, "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", f"{signed}.tsr")
    shutil.copy(folder / "ca.pem", case.expert / "authority.pem")


@pytest.fixture
def case(template: Case, tmp_path: Path) -> Case:
    shutil.copytree(template.vault, tmp_path / "vault", symlinks=True)
    shutil.copytree(template.expert, tmp_path / "expert")
    return Case(tmp_path / "vault", tmp_path / "expert")


def test_every_command_of_the_page_succeeds_on_a_sound_vault(case: Case) -> None:
    output = {}
    for number, (step, block) in enumerate(blocks()):
        done = case.run(block)
        assert done.returncode == 0, (step, block, done.stdout, done.stderr)
        output[number] = done.stdout
        assert "\x1b" not in done.stdout
    text = "".join(output.values())
    assert text.count('Good "manifest@evidencesync" signature for ana@lab') == 2
    assert text.count('Good "custody@evidencesync" signature') == 5
    assert text.count(": OK") == 6 + 4 + 3 + 1
    assert "acquired" in text


@pytest.fixture(scope="module")
def rotated(template: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A vault whose key was changed twice, between its acquisitions too. The expert knows the first key alone."""
    folder = tmp_path_factory.mktemp("rotated")
    bench = make_bench(folder)
    bench.name = ItemName(Title("2024-017"), Title("LAPTOP-1"))
    fill(bench.source)
    case = Case(bench.vault.layout.root, folder / "expert")
    bench.push()
    first = bench.vault.signer.public_key
    change_key(bench.vault, bench.vault.keys.current)
    (bench.source / "a.log").write_bytes(b"grown\n" * 2000)
    bench.push()
    record_report(bench)
    change_key(bench.vault, bench.vault.keys.current)
    bring(case, bench)
    lines = (case.expert / "trusted").read_text().splitlines()
    known = signer_line("vault", first, ("receipt@evidencesync", "custody@evidencesync"))
    (case.expert / "trusted").write_text(f"{lines[0]}\n{known}\n")
    return case


def copied(case: Case, folder: Path) -> Case:
    shutil.copytree(case.vault, folder / "vault", symlinks=True)
    shutil.copytree(case.expert, folder / "expert")
    return Case(folder / "vault", folder / "expert")


def test_every_command_succeeds_on_a_vault_whose_key_was_changed(rotated: Case, tmp_path: Path) -> None:
    case = copied(rotated, tmp_path)
    for step, block in blocks():
        done = case.run(block)
        assert done.returncode == 0, (step, block, done.stdout, done.stderr)
    assert (case.expert / "trusted").read_text().count("vault ") == 3


def test_an_acquisition_that_the_old_key_signs_after_it_was_given_up_is_found(template: Case, tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    bench.name = ItemName(Title("2024-017"), Title("LAPTOP-1"))
    fill(bench.source)
    bench.push()
    shutil.copytree(bench.vault.layout.root, tmp_path / "stolen")
    change_key(bench.vault, bench.vault.keys.current)
    thief = dataclasses.replace(bench, vault=Vault.open(tmp_path / "stolen"))
    thief.push()
    record_report(thief)
    case = Case(bench.vault.layout.root, tmp_path / "expert")
    shutil.rmtree(case.item)
    shutil.copytree(thief.vault.layout.item(bench.name).root, case.item, symlinks=True)
    bring(case, thief)
    assert case.failed_steps({*range(1, 10)}) == {8}


def test_the_page_says_so_much_in_steps_without_a_gap() -> None:
    assert sorted({step for step, _ in blocks()}) == list(range(1, 13))


def test_a_timestamp_is_judged_at_its_own_time(case: Case) -> None:
    (block,) = [block for step, block in blocks() if step == 11]
    assert "Verification: OK" in case.run(block).stderr + case.run(block).stdout
    later = block.replace('-attime "$(date -d "$stamped" +%s)"', '-attime "$(date -d "2099-01-01" +%s)"')
    assert later != block
    assert case.run(later).returncode != 0
    for name in ("tsq", "tsr"):
        (case.acquisition / f"manifest.jsonl.sig.{name}").unlink()
    assert case.failed_steps({4, 11}) == set()


def replace_in(name: str, old: bytes, new: bytes) -> Callable[[Case], None]:
    def spoil(case: Case) -> None:
        file = case.acquisition / name
        data = file.read_bytes()
        assert old in data
        edit(file, data.replace(old, new, 1))

    return spoil


def flip_in(path: str, offset: int = 200) -> Callable[[Case], None]:
    return lambda case: flip(case.item / path, min(offset, (case.item / path).stat().st_size // 2))


def exchange(one: str, other: str) -> Callable[[Case], None]:
    def spoil(case: Case) -> None:
        first, second = (case.item / one).read_bytes(), (case.item / other).read_bytes()
        edit(case.item / one, second)
        edit(case.item / other, first)

    return spoil


def plant(make: Callable[[Path], object]) -> Callable[[Case], None]:
    return lambda case: void(make(case.acquisition / "data" / "deep" / "new"))


def void(_: object) -> None:
    return None


def cut_tail(case: Case) -> None:
    shutil.rmtree(case.acquisition)
    shutil.copytree(case.item / "acquisitions" / "0001", case.acquisition)
    for file in case.custody.glob("000[345]*"):
        file.unlink()


def forget_record(case: Case) -> None:
    for file in case.custody.glob("0002*"):
        file.unlink()


def forget_last_record(case: Case) -> None:
    for file in case.custody.glob("0005*"):
        file.unlink()


def link_away(case: Case) -> None:
    folder = case.acquisition / "data" / "deep"
    folder.rename(case.expert / "deep")
    folder.symlink_to(case.expert / "deep")


def note_by_the_vault(case: Case) -> None:
    """Signed by a key that the expert trusts, for what only an examiner may state."""
    before = (case.custody / "0005-exported.json").read_bytes()
    note = msgspec.structs.replace(
        decode_record((case.custody / "0004-received.json").read_bytes()),
        type="noted",
        sequence=6,
        previous_sha256=sha256_of(before).hex(),
        receipt_sha256=None,
    )
    data = encode_record(note)
    (case.custody / "0006-noted.json").write_bytes(data)
    signature = sign_document(Vault.open(case.vault).signer, CUSTODY_NAMESPACE, sha512_of(data))
    (case.custody / "0006-noted.json.sig").write_bytes(signature)


def revoke(case: Case) -> None:
    line = next(line for line in (case.expert / "trusted").read_text().splitlines() if line.startswith("ana"))
    (case.expert / "revoked").write_text(" ".join(line.split()[2:4]) + "\n")


def other_stamp(case: Case) -> None:
    flip(case.acquisition / "manifest.jsonl.sig.tsr", 400)


def whole_other_acquisition(case: Case) -> None:
    """The first acquisition under the second's number: every document is genuine."""
    shutil.rmtree(case.acquisition)
    shutil.copytree(case.item / "acquisitions" / "0001", case.acquisition)


DAMAGE: Final[dict[str, tuple[Callable[[Case], None], set[int]]]] = {
    "a bit of a file": (flip_in("acquisitions/0002/data/a.log"), {4, 5}),
    "a bit of a file whose name no list of b3sum carries": (flip_in("acquisitions/0002/data/deep/er/x", 0), {4, 5}),
    "a file that is gone": (lambda case: (case.acquisition / "data" / "empty").unlink(), {4, 5}),
    "a file too many": (plant(lambda new: new.write_bytes(b"")), {4}),
    "a folder too many": (plant(Path.mkdir), {4}),
    "a link": (plant(lambda new: new.symlink_to("/etc/passwd")), {4}),
    "a FIFO": (plant(os.mkfifo), {4}),
    "a document too many": (lambda case: (case.acquisition / "notes").mkdir(), {4}),
    "a document too many whose name is two lines": (
        lambda case: void((case.acquisition / "manifest.jsonl.sig.tsq\nmanifest.jsonl.sig.tsr").write_bytes(b"")),
        {4},
    ),
    "an empty folder with another name": (
        lambda case: void((case.acquisition / "data/deep/nothing in it").rename(case.acquisition / "data/deep/something")),
        {4},
    ),
    "a folder that is a link to itself elsewhere": (link_away, {4}),
    "a note by the vault": (note_by_the_vault, {8}),
    "a bit of the manifest": (flip_in("acquisitions/0002/manifest.jsonl", 700), {3, 5, 6, 9}),
    "a bit of its signature": (flip_in("acquisitions/0002/manifest.jsonl.sig"), {3, 6, 10, 11}),
    "a key twice in the manifest": (replace_in("manifest.jsonl", b'{"type":', b'{"type":"file","type":'), {2, 3, 5, 6, 9}),
    "a key twice in the receipt": (replace_in("receipt.json", b'  "case"', b'  "case": "x",\n  "case"'), {2, 3, 9, 10}),
    "a bit of the receipt": (replace_in("receipt.json", b"received_from", b"received_fron"), {3, 9, 10}),
    "a bit of its signature, the receipt's": (flip_in("acquisitions/0002/receipt.json.sig"), {3}),
    "a bit of the sums": (flip_in("acquisitions/0002/SHA256SUMS"), {5, 6}),
    "a bit of the other sums": (flip_in("acquisitions/0002/BLAKE3SUMS"), {5, 6}),
    "a bit of the recipes": (flip_in("acquisitions/0002/chunks.bin"), {6}),
    "a bit of a record": (flip_in("custody/0001-acquired.json"), {7, 8}),
    "a bit of a record's signature": (flip_in("custody/0004-received.json.sig"), {8}),
    "a record that is gone": (forget_record, {7}),
    "records in each other's places": (exchange("custody/0001-acquired.json", "custody/0003-acquired.json"), {7, 8, 9}),
    "the record of the acquisition is not the chain's": (
        exchange("acquisitions/0002/acquired.json", "acquisitions/0001/acquired.json"),
        {6, 9},
    ),
    "another acquisition in its place": (whole_other_acquisition, {6, 10}),
    "the end cut off": (cut_tail, {6, 10}),
    "a revoked examiner": (revoke, {3, 8}),
    "another timestamp": (other_stamp, {11}),
    "another report": (lambda case: void((case.expert / "report.pdf").write_bytes(b"other")), {12}),
    "a report that no record names": (forget_last_record, {12}),
    "no list of revoked keys": (lambda case: (case.expert / "revoked").unlink(), {1, 3, 8}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_commands_fail_where_the_page_says_so(case: Case, name: str) -> None:
    spoil, expected = DAMAGE[name]
    spoil(case)
    assert case.failed_steps(expected) == expected


def test_no_command_fails_in_silence() -> None:
    """Whoever types the commands sees what they print, and not with what code they end."""
    assert [block for _, block in blocks() if re.search(r"^test (?!.*\|\| )", block, re.MULTILINE)] == []


def test_every_step_fails_for_some_damage() -> None:
    assert set.union(*(steps for _, steps in DAMAGE.values())) == {step for step, _ in blocks()}


def test_the_page_is_linked_where_an_expert_looks() -> None:
    root = PAGE.parents[1]
    assert "verify-without-us.md" in (root / "README.md").read_text("utf-8")
    assert "verify-without-us.md" in (root / "docs" / "README.md").read_text("utf-8")
