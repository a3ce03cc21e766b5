"""The main job on one machine, from an empty folder to a damaged vault: `make demo`, or `python -m docs.demo`.

Everything below the first step is a command line that a user types; each is printed before it runs. It ends with 0 only if
every one of them came out as it should.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from docs.demo.sample import IMAGE_BYTES, change_evidence, make_evidence
from docs.demo.terminal import Server, Terminal, UnexpectedError

CASE: Final = ("--case", "2024-017", "--item", "LAPTOP-1")
EXAMINER: Final = "ana@lab"
FLIPPED_BYTE: Final = 5_000_000
FLIPPED_BIT: Final = 0x08
DIGEST_MISMATCH: Final = 30
SMALL_SHARE: Final = 0.2  # of the evidence, at most, may travel the second time


def main() -> int:
    """Parses the one option, runs the demo, and says how it went."""
    parser = argparse.ArgumentParser(prog="python -m docs.demo", description="Runs evidencesync's main job on this machine.")
    parser.add_argument("--dir", type=Path, default=Path("demo-evidence"), help="a folder to make (default: %(default)s)")
    folder = _new_folder(parser.parse_args().dir)
    terminal = Terminal(folder)
    terminal.say(f"Everything happens in {folder}, with a home folder of its own: nothing of yours is touched.")
    try:
        _run(terminal)
    except UnexpectedError as error:
        terminal.say(f"\nTHE DEMO FAILED: {error}\nWhat there is lies in {folder} (the server's words: serve.log).")
        return 1
    return 0


def _new_folder(wanted: Path) -> Path:
    """Makes `wanted`, or `wanted-2` and so on where an earlier demo left its folder."""
    number, folder = 1, wanted.absolute()
    while folder.exists():
        number += 1
        folder = wanted.absolute().with_name(f"{wanted.name}-{number}")
    folder.mkdir(parents=True)
    for name in ("evidence", "keys", "home"):
        (folder / name).mkdir()
    (folder / "home" / ".ssh").mkdir(mode=0o700)
    return folder


def _run(terminal: Terminal) -> None:
    terminal.title("Evidence: a disk image with a file system, logs, small files, and names that break tools")
    refused = make_evidence(terminal.folder / "evidence")
    terminal.say(f"  {_describe(terminal.folder / 'evidence')} in evidence/")
    if refused:
        terminal.say(f"  (this file system refused {len(refused)} of the odd names)")
    _make_keys(terminal)
    serve = _make_vault(terminal)
    try:
        _transfer(terminal, serve)
    finally:
        stopped = serve.stop()
    if not stopped:
        raise UnexpectedError("the server did not end when it was asked to")
    terminal.say("\nThe server is stopped.")
    _verify(terminal)
    _ask_others(terminal)
    _damage(terminal)
    terminal.title("All as it should be")
    terminal.say(f"Look around in {terminal.folder}: vault/cases holds plain files.")
    terminal.say("Acquisition 2 keeps its flipped bit. Delete the folder when you like.")


def _make_keys(terminal: Terminal) -> None:
    terminal.title("The examiner's key, an ordinary SSH key: it opens the connection, and signs")
    key = terminal.folder / "keys" / "ana"
    if terminal.has("ssh-keygen"):
        terminal.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", EXAMINER, "-f", "keys/ana")
    else:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
        key.touch(mode=0o600)
        key.write_bytes(private.private_bytes(encoding, form, serialization.NoEncryption()))
        public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        key.with_name("ana.pub").write_bytes(public + f" {EXAMINER}\n".encode())
        terminal.say("  keys/ana was made by this script: there is no ssh-keygen here")
    key.with_name("authorized_keys").write_bytes(key.with_name("ana.pub").read_bytes())


def _make_vault(terminal: Terminal) -> Server:
    terminal.title("A vault that trusts this key, and its SSH server")
    terminal.run("evidencesync", "init", "vault", "--name", "Demo lab", "--trust", "keys/ana.pub", "--principal", EXAMINER)
    terminal.say("  (the lines from `next` on are for sshd. This demo uses the SSH server that evidencesync brings along)")
    command = "evidencesync serve --vault vault --listen 127.0.0.1:0 --authorized-keys keys/authorized_keys".split()
    return Server(terminal, command, terminal.folder / "serve.log")


def _transfer(terminal: Terminal, serve: Server) -> None:
    line, port = serve.wait_for_port()
    terminal.say(f"  {line}")
    address = f"ssh://127.0.0.1:{port}{terminal.folder / 'vault'}"
    push = ("evidencesync", "push", "evidence", address, *CASE, "-i", "keys/ana", "--examiner", "Ana Example")

    terminal.title("No unknown host key is ever accepted silently: it is shown, and trusted on purpose")
    fingerprint = _fingerprint(terminal.folder / "vault" / "host_key.pub")
    if fingerprint not in terminal.run("evidencesync", "host", "trust", address, answer="yes"):
        raise UnexpectedError(f"the fingerprint shown is not the server's: {fingerprint}")
    terminal.say("  (answered yes: the fingerprint is that of vault/host_key.pub)")

    terminal.title("First push: all of it travels, packed and without runs of zeros, and is read back from the vault's disk")
    before = _times(terminal.folder / "evidence")
    terminal.run(*push)
    if _times(terminal.folder / "evidence") != before:
        raise UnexpectedError("the source was touched")
    terminal.say("  (the source was not touched: sizes and times of all files are what they were)")

    terminal.title("A day later: a log has grown, two files inside the disk image changed, a folder was renamed, a file is new")
    change_evidence(terminal.folder / "evidence")
    terminal.run(*push)
    if (share := _share_travelled(terminal, 2)) > SMALL_SHARE:
        raise UnexpectedError(f"{share:.0%} travelled again")

    terminal.title("What the vault holds")
    terminal.run("evidencesync", "list", "vault")
    terminal.run("evidencesync", "show", "vault", *CASE)


def _verify(terminal: Terminal) -> None:
    terminal.title("Verify: every signature, record, and byte")
    terminal.run("evidencesync", "verify", "vault")


def _ask_others(terminal: Terminal) -> None:
    terminal.title("The same, asked of tools that are not ours")
    public = " ".join((terminal.folder / "keys" / "ana.pub").read_text(encoding="ascii").split()[:2])
    signers = terminal.folder / "keys" / "allowed_signers"
    signers.write_text(f'{EXAMINER} namespaces="manifest@evidencesync" {public}\n', encoding="ascii")
    acquisition = _acquisition(terminal, 2)
    if terminal.has("ssh-keygen"):
        manifest = acquisition / "manifest.jsonl"
        signature = str((acquisition / "manifest.jsonl.sig").relative_to(terminal.folder))
        verify = ("ssh-keygen", "-Y", "verify", "-f", "keys/allowed_signers", "-I", EXAMINER)
        terminal.run(*verify, "-n", "manifest@evidencesync", "-s", signature, reads=manifest)
    for program, arguments in (("sha256sum", ("--quiet", "-c", "SHA256SUMS")), ("b3sum", ("--quiet", "--check", "BLAKE3SUMS"))):
        if terminal.has(program):
            terminal.run(program, *arguments, inside=acquisition)
            terminal.say("  (silence: every file is what it was)")
        else:
            terminal.say(f"  ({program} is not installed here)")


def _damage(terminal: Terminal) -> None:
    terminal.title("One bit flips on the vault's disk")
    victim = _acquisition(terminal, 2) / "data" / "disk.img"
    _flip_bit(victim)
    terminal.say(
        f"  (the demo flipped one bit of {victim.relative_to(terminal.folder)}, in byte {FLIPPED_BYTE:,} of {IMAGE_BYTES:,})"
    )
    terminal.run("evidencesync", "verify", "vault", expect=DIGEST_MISMATCH)
    output = terminal.run("evidencesync", "verify", "vault", "--json", expect=DIGEST_MISMATCH, quiet=True)
    verdict: dict[str, Any] = json.loads(output)
    finding = next((finding for finding in verdict["findings"] if _covers(finding)), None)
    if verdict["verdict"] != "fail" or finding is None:
        raise UnexpectedError("verify did not say where the damage is")
    first, last = finding["offset"], finding["offset"] + finding["length"] - 1
    terminal.say(f"  found: acquisition {finding['acquisition']}, {finding['path']}, within bytes {first:,} to {last:,}")


def _covers(finding: dict[str, Any]) -> bool:
    offset, length = finding.get("offset"), finding.get("length")
    if finding.get("acquisition") != 2 or offset is None or length is None:
        return False
    return str(finding["path"]).endswith("disk.img") and int(offset) <= FLIPPED_BYTE < int(offset) + int(length)


def _acquisition(terminal: Terminal, number: int) -> Path:
    found = list(terminal.folder.glob(f"vault/cases/*/*/acquisitions/{number:04}"))
    if len(found) != 1:
        raise UnexpectedError(f"acquisition {number} is not in the vault")
    return found[0]


def _share_travelled(terminal: Terminal, number: int) -> float:
    """How much of the evidence has travelled, as the receipt, a plain file, says."""
    receipt: dict[str, Any] = json.loads((_acquisition(terminal, number) / "receipt.json").read_bytes())
    return int(receipt["transfer"]["wire_received_bytes"]) / int(receipt["points"]["source"]["bytes"])


def _describe(folder: Path) -> str:
    sizes = [file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return f"{len(sizes)} files, {_size(sum(sizes))}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _times(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def _flip_bit(file: Path) -> None:
    """As a failing disk does it: neither the time nor the mode of the file says anything."""
    status = file.stat()
    file.chmod(0o600)
    with file.open("r+b") as stream:
        stream.seek(FLIPPED_BYTE)
        value = stream.read(1)[0]
        stream.seek(FLIPPED_BYTE)
        stream.write(bytes([value ^ FLIPPED_BIT]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    file.chmod(status.st_mode & 0o777)


def _fingerprint(public_key: Path) -> str:
    blob = base64.b64decode(public_key.read_text(encoding="ascii").split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


if __name__ == "__main__":
    sys.exit(main())
