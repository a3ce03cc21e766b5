"""What a push costs that died at three quarters and is run again: `python -m tests.bench.resume FOLDER [GIB]`.

One large file, 4 GiB if nothing else is said, and a local vault, both in FOLDER, which needs room for twice that. Three runs,
each with both ends in one process: undisturbed, killed (SIGKILL) when three quarters are staged, and the same command again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
PROGRAM: Final = [sys.executable, "-m", "evidencesync"]


def main(where: str, gib: str = "4") -> None:
    """Prints one line for each run."""
    size = int(float(gib) * 1024) * MIB
    with tempfile.TemporaryDirectory(prefix="resume-", dir=where) as name:
        folder = Path(name)
        (folder / "source").mkdir()
        chance = random.Random(40)
        with (folder / "source" / "image").open("wb") as file:
            for _ in range(size // (16 * MIB)):
                file.write(chance.randbytes(16 * MIB))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        _run("undisturbed", folder, _new_vault(folder), None)
        vault = _new_vault(folder)
        _run("killed at 3/4", folder, vault, size * 3 // 4)
        _run("run again", folder, vault, None)


def _new_vault(folder: Path) -> Path:
    vault = folder / "vault"
    shutil.rmtree(vault, ignore_errors=True)
    made = [*PROGRAM, "init", vault, "--trust", folder / "key.pub", "--principal", "ana@lab"]
    subprocess.run([str(part) for part in made], check=True, capture_output=True)
    return vault


def _run(what: str, folder: Path, vault: Path, kill_at: int | None) -> None:
    command = [*PROGRAM, "push", folder / "source", vault, "--case", "1", "--item", "1", "--sign-key", folder / "key", "--json"]
    command += ["--receipts", folder / "receipts"]
    before = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    while kill_at is not None and _staged(vault) < kill_at:
        time.sleep(0.01)
    if kill_at is not None:
        process.send_signal(signal.SIGKILL)
    said = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - before
    literal = f"{json.loads(said)['literal_bytes'] / MIB:.1f} MiB sent" if said else f"{_staged(vault) / MIB:.1f} MiB staged"
    print(f"{what}: {literal}, {wall:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, peak {used.ru_maxrss / 1024:.0f} MiB")


def _staged(vault: Path) -> int:
    return sum(path.stat().st_size for path in vault.glob("cases/*/*/incoming/*/contents/*"))


if __name__ == "__main__":
    main(*sys.argv[1:])
