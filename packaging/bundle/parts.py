"""Says what the bundle is made of: `SBOM.cdx.json` (CycloneDX), and the licences of everything inside.

No time and no random number: the same inputs give the same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from fetch import listed

_LICENCE: Final = re.compile(r"(?:^|/)(?:licen[cs]e|copying|notice|authors|copyright)[^/]*$|/licenses/", re.IGNORECASE)
_DEBIAN_NAMES: Final = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_NOT_SAID: Final = {"pyrage": "MIT"}
"""The licence of a wheel that does not name it: as its source does."""
_CHANGED: Final = (
    "The loader has no paths any more of /etc/ld.so.preload, /etc/ld.so.cache and the machine's own folders of libraries, and "
    "libc.so.6 has none of /etc/nsswitch.conf: packaging/bundle/build.py empties them."
)


def describe(bundle: Path, unpacked: Path, version: str) -> None:
    """Writes the list of parts, and brings their licences."""
    parts = []
    for name, digest in sorted(listed().items()):
        part = _of_wheel(bundle, name) if name.endswith(".whl") else _of_package(bundle, unpacked, name)
        parts.append({**part, "hashes": [{"alg": "SHA-256", "content": digest}]})
    shutil.copytree(unpacked / "usr/share/common-licenses", bundle / "licences/common-licenses", symlinks=False)
    shutil.copy(Path(__file__).parents[2] / "LICENSE", bundle / "licences/evidencesync-LICENSE.txt")
    listing = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "evidencesync",
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
                "properties": [{"name": "evidencesync:platform", "value": "linux-x86_64"}],
            }
        },
        "components": parts,
    }
    (bundle / "SBOM.cdx.json").write_text(json.dumps(listing, indent=1, ensure_ascii=True) + "\n")


def _of_wheel(bundle: Path, name: str) -> dict[str, Any]:
    """A wheel's part. Its licences lie in its own folder, and are copied to the others."""
    stem = "-".join(name.split("-")[:2])
    folder = next(one for one in (bundle / "packages").glob("*.dist-info") if one.name.lower() == f"{stem}.dist-info".lower())
    facts = HeaderParser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
    for file in folder.rglob("*"):
        if file.is_file() and _LICENCE.search(file.relative_to(folder).as_posix()):
            target = bundle / "licences" / f"{stem}-{file.name.removesuffix('.txt')}.txt"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    licence = facts["License-Expression"] or (facts["License"] or "").partition("\n")[0] or _NOT_SAID.get(facts["Name"])
    names = [one.rpartition(":: ")[2] for one in facts.get_all("Classifier", []) if one.startswith("License ::")]
    return _part(
        facts["Name"], facts["Version"], f"pkg:pypi/{facts['Name'].lower()}@{facts['Version']}", [licence] if licence else names
    )


def _of_package(bundle: Path, unpacked: Path, name: str) -> dict[str, Any]:
    """The part of a Debian package, whose copyright file comes along."""
    package, version, _ = unquote(name).split("_")
    copyright_file = unpacked / "usr/share/doc" / package / "copyright"
    target = bundle / "licences" / f"{package}-copyright.txt"
    target.parent.mkdir(exist_ok=True)
    shutil.copy(copyright_file, target)
    named = sorted(set(_DEBIAN_NAMES.findall(copyright_file.read_text(encoding="utf-8", errors="replace"))))
    names = named or [f"see licences/{target.name}"]  # where Debian has it for people alone
    part = _part(package, version, f"pkg:deb/debian/{package}@{quote(version)}?arch=amd64&distro=bookworm", names)
    if package == "libc6":
        part["pedigree"] = {"notes": _CHANGED}
    return part


def _part(name: str, version: str, purl: str, licences: list[str]) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    if licences:
        part["licenses"] = [{"license": {"name": one}} for one in licences]
    return part
