"""The command as a process of its own, in a home folder of its own, and a laboratory to use it in."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

from tests.support.key_pairs import write_key_pair
from tests.support.patience import PATIENCE_SECONDS
from tests.support.prepared_program import PreparedProgram, Request

REPOSITORY: Final = Path(__file__).parents[2]
ITEM: Final = ("--case", "2024-017", "--item", "LAPTOP-1")
TIMEOUT_SECONDS: Final = PATIENCE_SECONDS


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> dict[str, Any]:
        detail: dict[str, Any] = self.document["error"]
        return detail


def started_program() -> str:
    """A --remote-command that starts the program."""
    return f"env PYTHONPATH={shlex.quote(str(REPOSITORY))} {shlex.quote(sys.executable)} -m evidencesync"


def far_program() -> str:
    """A --remote-command that works as the program does, and need not be started anew."""
    return PreparedProgram.of_this_run().command_for_others()


def schema_errors(document: object, name: str) -> list[str]:
    """What a public validator says against a document."""
    return [error.message for error in _validator(name).iter_errors(document)]


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((REPOSITORY / "schemas" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def drop_file_privileges() -> None:
    """Makes root obey the modes of files (capabilities 1 and 2, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH); nothing for others."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (1, 2):
        prctl(24, capability, 0, 0, 0)


@cache
def _vault_and_key() -> Path:
    """What `init` makes, and who is trusted there, to be copied. It ends with this process."""
    made = tempfile.TemporaryDirectory(prefix="evidencesync-")
    atexit.register(made.cleanup)
    folder = Path(made.name)
    (folder / "home").mkdir()
    lab = Lab(folder)
    lab.make_key("ana")
    assert lab.run("init", "vault", "--trust", "ana.pub", "--principal", "ana@lab").code == 0
    return folder


@dataclass(frozen=True)
class Lab:
    """A folder with an examiner's key `ana`, a vault `vault` that trusts it, and `evidence`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *, vault: bool = True) -> Lab:
        lab = cls(folder)
        for name in ("home", "evidence"):
            (folder / name).mkdir()
        if vault:
            made = _vault_and_key()
            subprocess.run(["cp", "-a", *(made / name for name in ("vault", "ana", "ana.pub")), folder], check=True)
        else:
            lab.make_key("ana")
        return lab

    def copy(self, folder: Path) -> Lab:
        """The same laboratory in another folder, with its home: a push takes several times as long as to copy what it made."""
        subprocess.run(["cp", "-a", f"{self.folder}/.", folder], check=True)
        return Lab(folder)

    def make_key(self, name: str, passphrase: str = "") -> Path:
        path = self.folder / name
        if passphrase:
            cheap = ("-a", "1")  # round of bcrypt: each opening of the key takes as long as its encryption
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, *cheap, "-C", name, "-f", path], check=True)
        else:
            write_key_pair(path, name)
        return path

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / "evidence" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "EVIDENCESYNC_", "XDG_"))}
        return {**kept, "HOME": str(self.folder / "home"), "PYTHONPATH": str(REPOSITORY)}

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "evidencesync", *arguments]

    def start(
        self, *arguments: str | bytes, command: Sequence[str | bytes] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,  # no terminal
        }
        return subprocess.Popen(command or self.command(*arguments), **{**settings, **options})

    def run(
        self, *arguments: str | bytes, answer: str = "", env: dict[str, str] | None = None, unprivileged: bool = False
    ) -> Done:
        environment = {**self.environment, **(env or {})}
        program = PreparedProgram.of_this_run()
        if not unprivileged and program.can_run_in(environment):
            request = Request.make(arguments, self.folder, environment)
            code, out, err = program.run(request, answer.encode(), TIMEOUT_SECONDS)
            return Done(code, out.decode(), err.decode())
        process = self.start(
            *arguments,
            stdin=subprocess.PIPE,
            env=environment,
            preexec_fn=drop_file_privileges if unprivileged else None,
        )
        out, err = process.communicate(answer.encode(), timeout=TIMEOUT_SECONDS)
        return Done(process.returncode, out.decode(), err.decode())

    def push(self, *arguments: str | bytes, source: str | bytes = "evidence", vault: str = "vault", **options: Any) -> Done:
        key = () if "--sign-key" in arguments else ("--sign-key", "ana")
        return self.run("push", source, vault, *ITEM, *key, *arguments, **options)

    def acquisition(self, number: int = 1) -> Path:
        return self.folder / "vault" / "cases" / "2024-017" / "LAPTOP-1" / "acquisitions" / f"{number:04}"

    def header(self, number: int = 1) -> dict[str, Any]:
        with (self.acquisition(number) / "manifest.jsonl").open("rb") as lines:
            header: dict[str, Any] = json.loads(lines.readline())
        return header
