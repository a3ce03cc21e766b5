"""A bundle's archive is read as a whole before it is brought anywhere, and what is odd about it is refused."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path

import pytest

from evidencesync.acquire import bundle_file
from evidencesync.acquire.bundle_file import check_bundle
from evidencesync.errors import DigestMismatchError, EvidenceSyncError, MissingOrExtraError, NotThereError, SignatureError
from tests.support.key_pairs import write_key_pair
from tests.support.small_bundle import FOLDER, member, small_bundle, write_archive


def test_a_whole_bundle_is_described_and_packed_for_tar_and_gzip(tmp_path: Path) -> None:
    checked = check_bundle(small_bundle(tmp_path / "b", "exit 0"))
    unpacked = zlib.decompress(b"".join(checked.packed()), wbits=31)
    assert (checked.folder, checked.signed_by) == (FOLDER, None)
    assert f"{FOLDER}/SHA256SUMS".encode() in unpacked


def test_who_signed_the_list_is_told_and_a_signature_of_something_else_is_refused(tmp_path: Path) -> None:
    write_key_pair(tmp_path / "key", "builder")
    signed = check_bundle(small_bundle(tmp_path / "b", "exit 0", key=tmp_path / "key"))
    assert str(signed.signed_by).startswith("SHA256:")
    other = small_bundle(tmp_path / "other", "exit 1", key=tmp_path / "key")
    signature = next(data for name, data in _files(other) if name.endswith(".sig"))
    with pytest.raises(SignatureError):
        check_bundle(small_bundle(tmp_path / "false", "exit 0", more={"SHA256SUMS.sig": signature}))


def _files(archive: Path) -> list[tuple[str, bytes]]:
    with bundle_file._unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return [(one.name, file.read()) for one in tar if (file := tar.extractfile(one)) is not None]


def test_a_file_that_is_changed_gone_or_too_much_is_named(tmp_path: Path) -> None:
    whole = dict(_files(small_bundle(tmp_path / "b", "exit 0")))

    def changed(files: dict[str, bytes]) -> Path:
        return write_archive(
            tmp_path / "changed", [member(name.removeprefix(f"{FOLDER}/"), data) for name, data in files.items()]
        )

    with pytest.raises(DigestMismatchError, match=r"README\.txt is changed"):
        check_bundle(changed({**whole, f"{FOLDER}/README.txt": b"other"}))
    with pytest.raises(MissingOrExtraError, match=r"README\.txt is gone"):
        check_bundle(changed({name: data for name, data in whole.items() if "README" not in name}))
    with pytest.raises(MissingOrExtraError, match="sitecustomize"):
        check_bundle(changed({**whole, f"{FOLDER}/sitecustomize.py": b""}))
    with pytest.raises(MissingOrExtraError, match="README"):
        check_bundle(changed({name: data for name, data in whole.items() if "SUMS" not in name}))


@pytest.mark.parametrize(
    "odd",
    [
        member("../../etc/cron.d/x", b"x"),
        member("/etc/cron.d/x", b"x"),
        member("a/../../x", b"x"),
        member("x\ny", b"x"),
        member("link", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member("hard", kind=tarfile.LNKTYPE, target=f"{FOLDER}/README.txt"),
        member("device", kind=tarfile.CHRTYPE),
        member("README.txt", b"twice"),
    ],
    ids=lambda found: found[0].name,
)
def test_what_would_lie_elsewhere_or_is_no_file_is_refused(odd: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    readme = b"read me\n"
    sums = f"{hashlib.sha256(readme).hexdigest()}  README.txt\n".encode()
    archive = write_archive(tmp_path / "b", [member("README.txt", readme), odd, member("SHA256SUMS", sums)])
    with pytest.raises(MissingOrExtraError, match="none of ours"):
        check_bundle(archive)


def test_an_archive_that_says_more_than_any_bundle_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = small_bundle(tmp_path / "b", "exit 0")
    for name in ("MAX_BUNDLE", "MAX_BUNDLE_FILES"):
        with monkeypatch.context() as patch, pytest.raises(MissingOrExtraError, match="too large"):
            patch.setattr(bundle_file, name, 1)
            check_bundle(archive)


@pytest.mark.parametrize("data", [b"", b"no archive", b"cut"])
def test_what_is_no_archive_is_said(data: bytes, tmp_path: Path) -> None:
    archive = small_bundle(tmp_path / "b", "exit 0")
    archive.write_bytes(archive.read_bytes()[:-40] if data == b"cut" else data)
    with pytest.raises(EvidenceSyncError, match=r"cannot be read|is gone"):
        check_bundle(archive)
    with pytest.raises(NotThereError, match="No such file"):
        check_bundle(tmp_path / "absent")
