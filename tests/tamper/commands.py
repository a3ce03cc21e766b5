"""What every other command makes of a vault that was tampered with: it must say the same as `verify`, or nothing against it."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evidencesync.custody.trust import signer_line
from evidencesync.localstate.heads import HeadMemory
from evidencesync.verify.audit import audit_vault
from tests.tamper.row import Row
from tests.tamper.vault import CASE, FOLDERS, Workshop, remove

DEFECT: Final = "defect of evidencesync"
WHOLE: Final = (0, 3)  # made, perhaps with gaps that the source had


@dataclass(frozen=True)
class Trial:
    """One row, done. Every method gives what is wrong, for people."""

    shop: Workshop
    row: Row

    @property
    def folder(self) -> Path:
        """The acquisition that commands are asked about."""
        return self.shop.vault / self.row.about

    @property
    def number(self) -> str:
        """Its number."""
        return str(int(self.row.about[-4:]))

    @property
    def item(self) -> tuple[str, ...]:
        """Options that name its item."""
        return "--case", CASE, "--item", self.row.about.split("/")[2]

    def verified(self, **part: object) -> int:
        """What verify says, of a part or of all, on a machine that has seen the vault."""
        memory = HeadMemory(self.shop.state)
        return audit_vault(self.shop.vault, now_ns=time.time_ns(), memory=memory, **part).exit_code  # type: ignore[arg-type]

    def all_objections(self) -> list[str]:
        """Of all commands."""
        checks = (self.export, self.restore, self.report, self.receipts, self.compare, self.others)
        return [objection for check in checks for objection in check()]

    def export(self) -> Iterator[str]:
        """An export is made when verify passes that acquisition, and only then."""
        right = self.verified(case=CASE, item=self.item[3], acquisition=int(self.number), all_digests=True)
        out = self.shop.folder / "out.txt"
        remove(out)
        done = self.shop.run("export", self.shop.vault, out, *self.item, "--acquisition", self.number, "--format", "hashdeep")
        if (done.code in WHOLE) != (right == 0) or DEFECT in done.err or (done.code not in WHOLE and out.exists()):
            yield f"export ends with {done.code}, verify of it with {right}: {done.err}"

    def restore(self) -> Iterator[str]:
        """A working copy is made when verify passes, and then it is what was acquired."""
        right = self.verified(case=CASE, item=self.item[3], acquisition=int(self.number))
        # What nobody lists is not restored, and keeps nobody from it; nor do lists for other programs.
        beside = (right == 31 and self.row.slug == "extra-entry") or (right in (30, 31) and self.row.place.endswith("SUMS"))
        wanted = right == 0 or beside if self.row.restore is None else self.row.restore == "made"
        out = self.shop.folder / "copy"
        remove(out)
        done = self.shop.run("restore", self.shop.vault, out, *self.item, "--acquisition", self.number)
        if (done.code in WHOLE) != wanted or DEFECT in done.err:
            yield f"restore ends with {done.code}, verify of it with {right}: {done.err}"
        if done.code not in WHOLE and out.exists():
            yield f"restore ends with {done.code}, and has made something"
        if done.code in WHOLE and files_of(out) != files_of(self.shop.template / self.row.about / "data"):
            yield "restore has made something else than was acquired"

    def report(self) -> Iterator[str]:
        """A report has verify's verdict."""
        right = self.verified(case=CASE)
        out = self.shop.folder / "report.json"
        remove(out)
        done = self.shop.run("report", self.shop.vault, "--case", CASE, "-o", out)
        if (done.code == 0) != (right == 0) or DEFECT in done.err:
            yield f"report ends with {done.code}, verify of the case with {right}: {done.err}"
        if out.exists() and (json.loads(out.read_bytes())["judgement"]["state"] == "pass") != (right == 0):
            yield f"the report passes, verify of the case ends with {right}"

    def receipts(self) -> Iterator[str]:
        """Receipts find every document that they have otherwise; and accuse nobody whom verify passes."""
        right, done = self.verified(), self.shop.run("receipts", "check", "--vault", self.shop.vault)
        other = done.code == 10 and "receipt" in done.err  # none of this vault
        if DEFECT in done.err or (right == 0 and done.code and not other) or (self._receipts_differ() and not done.code):
            yield f"receipts check ends with {done.code}, verify with {right}: {done.out}{done.err}"

    def _receipts_differ(self) -> bool:
        """Whether a kept receipt says otherwise than the vault. Where a crash came first, nobody has one."""
        shop = self.shop
        is_other = bytes_of(shop.vault / "vault.toml") == bytes_of(shop.other / "vault.toml")
        for kept in shop.receipts.iterdir() if shop.receipts.is_dir() else ():
            receipt = json.loads((kept / "receipt.json").read_bytes())
            if receipt["vault_id"] != shop.ids[is_other]:
                continue
            item = shop.vault / FOLDERS[receipt["case"], receipt["item"]]
            folder = item / "acquisitions" / f"{receipt['acquisition']:04d}"
            for file in ("receipt.json", "acquired.json", "received.json", "manifest.jsonl"):
                for name in (file, f"{file}.sig"):
                    if name != "manifest.jsonl" and bytes_of(folder / name) != (kept / name).read_bytes():
                        return True
        return False

    def compare(self) -> Iterator[str]:
        """A folder is the same as a manifest when both are what they were, and only then."""
        shop, trusted = self.shop, self.shop.folder / "trusted"
        names = ("manifest@evidencesync",)
        trusted.write_text("".join(signer_line(f"{who}@lab", shop.keys[who].public_key, names) + "\n" for who in ("ana", "ben")))
        done = shop.run("compare", self.folder / "manifest.jsonl", self.folder / "data", "--trusted", trusted)
        signature = (self.folder / "manifest.jsonl.sig").resolve()  # a file that a person names may be a link
        found = [bytes_of(self.folder / "manifest.jsonl"), bytes_of(signature)]
        same = None not in found and any(
            found == [bytes_of(one / name) for name in ("manifest.jsonl", "manifest.jsonl.sig")]
            and tree_of(self.folder / "data") == tree_of(one / "data")
            for vault in (shop.template, shop.other)
            for one in vault.glob("cases/*/*/acquisitions/*")
        )
        if (done.code == 0) != same or DEFECT in done.err:
            yield f"compare ends with {done.code}; all is as it was: {same}; {done.err}"

    def others(self) -> Iterator[str]:
        """Whatever is asked of such a vault, it is no defect; and a vault.toml that is none is called that by all."""
        for words in (("list",), ("show", *self.item), ("diff", *self.item, "1", "2"), ("custody", "show", *self.item)):
            count = 2 if words[0] == "custody" else 1
            done = self.shop.run(*words[:count], self.shop.vault, *words[count:])
            if DEFECT in done.err:
                yield f"{words[0]} ends with {done.code}: {done.err}"
            settings = self.row.place == "vault.toml" and self.row.slug in {"malformed-document", "wrong-place", "later-format"}
            if settings and done.code != self.row.code:
                yield f"{words[0]} ends with {done.code}, verify with {self.row.code}: {done.err}"
            if words[0] == "list" and self.row.slug in {"rolled-back", "missing-acquisition"} and done.code != self.row.code:
                yield f"list ends with {done.code}, verify with {self.row.code}: {done.err}"


def bytes_of(file: Path) -> bytes | None:
    """A regular file's bytes, if it is one, and no larger than any document; else None."""
    try:
        status = file.lstat()
    except OSError:
        return None
    return file.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20 else None


def files_of(folder: Path) -> dict[str, bytes]:
    """The regular files below a folder."""
    return {path: data for path, data in tree_of(folder).items() if data is not None}


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder by its path: a regular file's bytes, and None for what is none."""
    found: dict[str, bytes | None] = {"": None}
    if folder.is_symlink() or not folder.is_dir():
        return {}
    for top, folders, files in os.walk(folder):
        for name in folders:
            path = Path(top, name)
            found[str(path.relative_to(folder)) + ("" if path.is_symlink() else "/")] = None
        for name in files:
            path = Path(top, name)
            found[str(path.relative_to(folder))] = bytes_of(path)
    return found
