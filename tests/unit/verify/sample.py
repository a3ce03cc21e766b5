"""A real vault to be damaged, and what tests ask of it."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.trust import signer_line
from evidencesync.delta.chunker import SegmentCutter
from evidencesync.delta.recipe import Recipe, RecipeBuilder
from evidencesync.evidence.digest import blake3_of
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Finding, Verdict
from tests.support.moments import LONG_AFTER_NS
from tests.support.rows_in_memory import RowsInMemory

NOW_NS = LONG_AFTER_NS
ZEROS_AT, ZEROS = 700_000, 300_000
NOISE = random.Random(17).randbytes
IMAGE = NOISE(ZEROS_AT) + bytes(ZEROS) + NOISE(900_000)
FIRST = {
    b"a.txt": b"first",
    b"empty": b"",
    b"image.bin": IMAGE,
    b"logs/day 1.log": b"line\n" * 1000,
    b"logs/deep/er/x": b"x",
    b"logs/odd \xff\n\\ name": b"odd",
    "logs/\u540d.txt".encode(): b"name",
    b"logs/with\rreturn": b"not in BLAKE3SUMS",
    b"logs.txt": b"after the folder in a listing, after its contents in a walk",
}
SECOND = {**FIRST, b"a.txt": b"second"}
ITEM = "cases/2026-117-2db29d5b/3-a"


def recipe_of(content: bytes) -> Recipe:
    """The recipe that a receiver stores for a content."""
    cutter, builder = SegmentCutter(), RecipeBuilder(RowsInMemory())
    segments = []
    for start in range(0, len(content), 1 << 20):
        part = content[start : start + (1 << 20)]
        cutter.buffer(len(part))[: len(part)] = part
        segments += cutter.commit(len(part))
    for segment in segments + cutter.finish():
        builder.add_segment(segment.rows())
    return builder.finish(blake3_of(content))


@dataclass(frozen=True)
class Made:
    """A vault on disk, and the key that signed in it."""

    path: Path
    examiner: SigningKey

    @property
    def item(self) -> Path:
        """The item's folder."""
        return self.path / ITEM

    def acquisition(self, number: int) -> Path:
        """An acquisition's folder."""
        return self.item / "acquisitions" / f"{number:04d}"

    def open(self) -> Vault:
        """The vault, to change it the right way."""
        return Vault.open(self.path)

    def audit(self, **options: object) -> Verdict:
        """Runs the audit."""
        return audit_vault(self.path, **{"now_ns": NOW_NS, **options})  # type: ignore[arg-type]

    def outside_trust(self, *, vault_key: bool = True, examiner: bool = True) -> bytes:
        """An allowed_signers file as an expert would bring along, with names of his own for the vault."""
        lines = []
        if examiner:
            lines.append(signer_line("ana", self.examiner.public_key, ("manifest@evidencesync", "custody@evidencesync")))
        if vault_key:
            key = self.open().signer.public_key
            lines.append(signer_line("vault@lab", key, ("receipt@evidencesync", "custody@evidencesync")))
        return "".join(line + "\n" for line in lines).encode()


def edit(file: Path, data: bytes) -> None:
    """Puts other bytes into a stored file, which is read-only, and leaves it read-only."""
    mode = file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(data)
    os.chmod(file, mode)


def flip(file: Path, offset: int, bit: int = 0) -> None:
    """Changes one bit of a stored file."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    edit(file, bytes(data))


def slugs(verdict: Verdict, *severities: str) -> set[str]:
    """The kinds of all findings, of these severities (errors, if none is named)."""
    return {one.slug for one in verdict.findings if one.severity in (severities or ("error",))}


def only(verdict: Verdict, slug: str) -> Finding:
    """The one finding of a kind."""
    found = [one for one in verdict.findings if one.slug == slug]
    assert len(found) == 1, verdict.findings
    return found[0]
