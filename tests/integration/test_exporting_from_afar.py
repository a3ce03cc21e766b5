"""A bag of a far vault: byte for byte the one that is made there, whole or not at all, over as many links as it takes."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.acquire import evidence
from evidencesync.acquire.documents import DocumentsRequest, fetch_documents
from evidencesync.acquire.evidence import EvidenceStream
from evidencesync.acquire.reading_session import FarReader
from evidencesync.connection.link import Link
from evidencesync.errors import DigestMismatchError, LinkLostError, MissingOrExtraError, ProtocolError
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.export.bag import Bag
from evidencesync.export.contents import FetchedContents, OpenContents, StoredContents
from evidencesync.export.run import ExportRequest, Format, export_acquisition
from evidencesync.export.tree import archive_blocks
from evidencesync.limits import MIB
from evidencesync.vault.vault import Vault
from evidencesync.verify.context import VerifyProgress
from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.test_custody import _far
from tests.integration.test_restoring_from_afar import cut_after
from tests.integration.test_verifying_from_afar import damaged
from tests.security.test_vaults_that_send_other_evidence import AlteredLink, of_another_file, other_bytes
from tests.support.bench_of_evidence import Bench, copy_of, make_bench

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two acquisitions; the second has links to files of the first, a repeated content, a hard link, and holes."""
    made = make_bench(tmp_path_factory.mktemp("template"))
    source = made.source
    (source / "folder").mkdir()
    (source / "empty folder").mkdir()
    (source / "empty").write_bytes(b"")
    (source / "small").write_bytes(b"1" * 1000)
    (source / "other").write_bytes(b"2" * 1000)
    (source / "large").write_bytes(os.urandom(3 * MIB + 5))
    (source / "folder" / "same as large").write_bytes((source / "large").read_bytes())
    os.link(source / "large", source / "linked")
    with (source / "sparse").open("wb") as file:
        file.seek(2 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(9 * MIB)
    made.push()
    (source / "new").write_bytes(os.urandom(200_000))
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def fetched(bench: Bench, folder: Path, connect: Callable[[], Link], retries: int = 0) -> tuple[Vault, OpenContents]:
    """The documents of the last acquisition in a folder, and what opens its contents as an export from afar does."""
    folder.mkdir()
    name = bench.name
    request = DocumentsRequest(b"", bench.signer, "0" * 32, name.case.text, name.item.text, (2,), timeout_seconds=20.0)
    vault, session = fetch_documents(connect, request, lambda _: None, lambda: folder)
    session.close()  # as the verification before an export does
    far = FarReader(connect, request, session)

    def open_contents(acquisition: AcquisitionReader, data_fd: int | None) -> FetchedContents:
        stream = EvidenceStream(far.with_new_session(), name.case.text, name.item.text, 2, retries)
        return FetchedContents(acquisition, data_fd, stream)

    return vault, open_contents


def export(bench: Bench, vault: Vault, place: Path, open_contents: OpenContents = StoredContents) -> None:
    is_far, moment = open_contents is not StoredContents, 1_700_000_000_000_000_000
    wanted = ExportRequest(vault, vault.item(bench.name), 2, Format.BAGIT, place, [], moment, is_fetched=is_far)
    with wanted.open_destination() as destination:
        export_acquisition(wanted, destination, lambda _: None, VerifyProgress(), open_contents)


def export_far(bench: Bench, folder: Path, connect: Callable[[], Link] | None = None, retries: int = 0) -> None:
    vault, open_contents = fetched(bench, folder / "documents", connect or (lambda: bench.serve()[0]), retries)
    export(bench, vault, folder / "bag", open_contents)


def listing(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Everything in a bag: times of what is evidence, and bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder))
        is_dated = relative.startswith("data/")
        found[relative] = (path.stat().st_mtime_ns if is_dated else 0, path.read_bytes() if path.is_file() else None)
    return found


def nothing_left(folder: Path) -> bool:
    return not (folder / "bag").exists() and not [one for one in folder.iterdir() if one.name.startswith(".evidencesync")]


def test_a_bag_from_afar_is_byte_for_byte_the_one_that_is_made_there(bench: Bench, tmp_path: Path) -> None:
    export(bench, bench.vault, tmp_path / "here")
    export_far(bench, tmp_path)
    assert listing(tmp_path / "bag") == listing(tmp_path / "here")


def test_so_is_an_archive_and_nothing_of_it_touches_a_disk(bench: Bench, tmp_path: Path) -> None:
    vault, open_contents = fetched(bench, tmp_path / "documents", lambda: bench.serve()[0])
    made = []
    for of, opened in ((bench.vault, StoredContents), (vault, open_contents)):
        acquisition = AcquisitionReader(of.item(bench.name), 2, is_fetched=of is vault)
        with acquisition, closing(opened(acquisition, None)) as contents:
            bag = Bag(acquisition, "2026-11-28")
            made.append(b"".join(archive_blocks(acquisition, contents, bag.name, bag.parts(), VerifyProgress())))
    assert made[0] == made[1]


def test_a_lost_link_goes_on_at_what_was_due(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "pause_seconds", lambda _: 0.0)
    links, connect = cut_after(bench, None, 2 * MIB, MIB, None)
    export_far(bench, tmp_path, connect, retries=1)
    export(bench, bench.vault, tmp_path / "here")
    assert (listing(tmp_path / "bag"), len(links)) == (listing(tmp_path / "here"), 4)


def test_a_link_that_does_not_come_back_leaves_nothing(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "pause_seconds", lambda _: 0.0)
    with pytest.raises(LinkLostError):
        export_far(bench, tmp_path, cut_after(bench, None, 2 * MIB, 0, 0)[1], retries=2)
    assert nothing_left(tmp_path)


# --- Vaults that lie -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alter", [other_bytes, of_another_file])
def test_other_bytes_are_in_no_bag(bench: Bench, tmp_path: Path, alter: Callable[..., object]) -> None:
    with pytest.raises(DigestMismatchError, match="is not what was acquired") as caught:
        export_far(bench, tmp_path, lambda: AlteredLink(bench.serve()[0], alter))  # type: ignore[arg-type]
    assert "Nothing was exported" in (caught.value.hint or "")
    assert nothing_left(tmp_path)


def test_another_vault_behind_the_second_link_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    another, links = make_bench(tmp_path / "another"), []
    another.signer = bench.signer
    another.vault.trust.add(bench.signer.public_key, "eve@lab")

    def connect() -> Link:
        links.append(1)
        return (bench if len(links) == 1 else another).serve()[0]

    with pytest.raises(ProtocolError, match="another vault answers"):
        export_far(bench, tmp_path, connect)
    assert nothing_left(tmp_path)


def test_a_content_with_another_sha256_than_is_signed_is_in_no_bag(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its BLAKE3 fits: both digests are in the bag, and both were compared."""
    monkeypatch.setattr("evidencesync.acquire.far_contents.new_sha256", lambda: hashlib.sha256(b"more"))
    with pytest.raises(DigestMismatchError):
        export_far(bench, tmp_path)
    assert nothing_left(tmp_path)


def test_a_file_that_is_gone_there_is_named(bench: Bench, tmp_path: Path) -> None:
    (bench.acquisition(2) / "data" / "small").unlink()
    with pytest.raises(MissingOrExtraError, match="small"):
        export_far(bench, tmp_path)
    assert nothing_left(tmp_path)


# --- Over a real sshd ------------------------------------------------------------------------------------------------------


def test_a_bag_is_exported_and_recorded_with_a_key_that_may_only_serve(tmp_path: Path, sshd: Sshd) -> None:
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    lab.write("image.dd", os.urandom(400_000))
    assert lab.push().code == 0
    far, options = _far(lab, sshd, forced=True)
    wanted = (*ITEM, "--format", "bagit", "--sign-key", "ana", "--examiner", "Ana", "--json")
    assert lab.run("export", "vault", "here", *wanted).code == 0
    done = lab.run("export", far, "bag", *wanted, "--record", *options)
    assert (done.code, schema_errors(done.document, "export-output"), done.document["record"]["record"]) == (0, [], 3), done
    assert listing(lab.folder / "bag") == listing(lab.folder / "here")
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=lab.folder / "bag", check=False).returncode == 0
    assert lab.run("verify", "vault").code == 0
    lab.make_key("expert")
    sealed = lab.run("export", far, "sealed", *wanted, "--encrypt-to", "expert.pub", *options)
    assert (sealed.code, (lab.folder / "sealed.tar.age").read_bytes()[:21]) == (0, b"age-encryption.org/v1"), sealed
    damaged(lab)
    refused = lab.run("export", far, "no", *wanted, *options)
    assert (refused.code, (lab.folder / "no").exists()) == (30, False)
