"""The programs that judge us, and the Debian packages that bring them.

The one list of them: a test whose program is missing is skipped with the package's name, and `.ci/run` installs what is missing,
before anything but Python is there. So this file needs the standard library alone:

    python3 tests/support/programs.py      prints the packages of what is missing, one a line

With WITHOUT_PROGRAMS=1 in the environment a run behaves as if none of them were installed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

# Where distributions keep servers and tools for disks, which a plain user's PATH may not name.
MORE_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# What needs a package: by its name, the programs that tests use. The rest is on every Debian system.
_PROGRAMS_OF: Final = {
    "age": "age age-keygen",
    "b3sum": "b3sum",
    "btrfs-progs": "btrfs mkfs.btrfs",
    "build-essential": "cc gcc",
    "chromium": "chromium",
    "busybox-static": "busybox",
    "dosfstools": "mkfs.vfat fsck.vfat",
    "e2fsprogs": "mkfs.ext4 chattr",
    "faketime": "faketime",
    "fonts-noto-cjk": "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "fonts-noto-core": "/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf",
    "gddrescue": "ddrescue",
    "fish": "fish",
    "git": "git",
    "hashdeep": "hashdeep",
    "jq": "jq",
    "krb5-admin-server": "kadmin.local",
    "krb5-kdc": "kdb5_util krb5kdc",
    "krb5-user": "kinit",
    "mandoc": "mandoc",
    "mount": "losetup mount umount",
    "openssh-client": "ssh ssh-add ssh-agent ssh-keygen ssh-keyscan",
    "openssh-server": "sshd",
    "openssh-sftp-server": "/usr/lib/openssh/sftp-server",
    "openssl": "openssl",
    "poppler-utils": "pdfdetach pdffonts pdfimages pdfinfo pdftotext",
    "rsync": "rsync",
    "strace": "strace",
    "systemd": "systemd-analyze",
    "util-linux": "nsenter prlimit setpriv unshare",
    "xfsprogs": "mkfs.xfs",
    "zsh": "zsh",
}
PACKAGES: Final = {program: package for package, programs in _PROGRAMS_OF.items() for program in programs.split()}

WITHOUT: Final = os.environ.get("WITHOUT_PROGRAMS", "") == "1"
PACKAGE_IN_REASON: Final = r"\(package ([^)]+)\)$"


def path_with_more_folders() -> str:
    """PATH, and behind it the folders that it may lack."""
    given = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*given, *(folder for folder in MORE_FOLDERS if folder not in given)])


def make_path_without(folder: Path) -> str:
    """A PATH of one folder, in which every program but the listed ones is."""
    for place in path_with_more_folders().split(os.pathsep):
        for found in Path(place).glob("*"):
            link = folder / found.name
            if found.name not in PACKAGES and not link.is_symlink():
                link.symlink_to(found)
    return str(folder)


def find(program: str) -> str | None:
    """Where a program is; None where it is not."""
    if WITHOUT and program in PACKAGES:
        return None
    if os.path.isabs(program) and os.path.isfile(program):  # a font is no program, and is asked for in the same way
        return program
    return shutil.which(program, path=path_with_more_folders())


def say_missing(program: str) -> str:
    """Why a test is skipped; a run's last lines gather the packages from these."""
    package = PACKAGES.get(program)
    return f"{program} is not installed" + (f" (package {package})" if package else "")


def missing_packages() -> list[str]:
    """The packages of which a program is missing."""
    return sorted({package for program, package in PACKAGES.items() if find(program) is None})


if __name__ == "__main__":
    for package in missing_packages():
        print(package)  # noqa: T201 - a program of its own for .ci/run
