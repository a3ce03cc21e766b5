"""The last part of a build, run by the bundle's own Python: compiles, lists, signs and packs.

What Python compiles and what zstd packs differ from version to version. Here both are the bundle's own, so that its bytes depend
on its inputs alone.

    seal.py BUNDLE ARCHIVE LEVEL [KEY]
"""

import compileall
import hashlib
import os
import py_compile
import subprocess
import sys
import tarfile
from pathlib import Path

SUMS = "SHA256SUMS"
NAMESPACE = "bundle@evidencesync"


def main(bundle: Path, archive: Path, level: int, key: str | None) -> None:
    """Makes the archive of a bundle whose files are in their places."""
    compile_all(bundle)
    for path in sorted(bundle.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    require_portable(names)
    sums = "".join(f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (bundle / SUMS).write_text(sums)
    if key is not None:
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, bundle / SUMS], check=True)
    pack(bundle, archive, level)


def compile_all(bundle: Path) -> None:
    """Compiles every module. The names in it have no path of this machine, and nobody compares it with its source later."""
    for folder in ("python/lib", "packages"):
        done = compileall.compile_dir(
            bundle / folder,
            maxlevels=20,
            quiet=2,
            stripdir=str(bundle),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not done:
            sys.exit(f"a module in {folder} cannot be compiled")


def require_portable(names: list[str]) -> None:
    """Ends with an error for names that a FAT file system, as a stick has it, takes for one, or cannot have."""
    alike = len(names) - len({name.lower() for name in names})
    if alike or any(set(name) & set('\\:*?"<>|\n') for name in names):
        sys.exit("the bundle has names that a FAT file system cannot have")


def pack(bundle: Path, archive: Path, level: int) -> None:
    """Writes the archive: names in order, everything of root and of one time."""
    import zstandard

    when = int(os.environ["SOURCE_DATE_EPOCH"])

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = when
        return member

    packer = zstandard.ZstdCompressor(level=level, write_checksum=True)
    with (
        archive.open("wb") as file,
        packer.stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in [bundle, *sorted(bundle.rglob("*"))]:
            tar.add(path, path.relative_to(bundle.parent).as_posix(), recursive=False, filter=plain)


if __name__ == "__main__":
    sys.path.append(str(Path(sys.argv[1]) / "packages"))
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
