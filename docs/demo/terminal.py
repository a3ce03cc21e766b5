"""Runs command lines as a user would type them, and prints each with what it answered."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

MAX_LINES: Final = 40  # of one command's output
QUESTION_END: Final = "[y/yes or n/no] "
TIMEOUT_SECONDS: Final = 120
STOP_SECONDS: Final = 15


class UnexpectedError(Exception):
    """Something came out otherwise than the demo said it would."""


class Terminal:
    """A shell's place and environment: `folder` is where it stands, and a home of its own keeps the user's files out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        personal = ("XDG_", "EVIDENCESYNC_", "SSH_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(personal)}
        self.environment["HOME"] = str(folder / "home")
        self.environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        self._bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def has(self, program: str) -> bool:
        """Whether `program` can be run here."""
        return shutil.which(program, path=self.environment["PATH"]) is not None

    def title(self, text: str) -> None:
        """Begins a part of the demo."""
        self.say("")
        self.say(self._strong(f"== {text}"))

    def say(self, text: str) -> None:
        """One line for the reader."""
        print(text, flush=True)

    def show_command(self, command: Sequence[str], *, after: str = "", inside: Path | None = None) -> None:
        """Prints a command line as it would be typed."""
        place = f"cd {shlex.quote(str(inside.relative_to(self.folder)))} && " if inside else ""
        self.say(self._strong(f"$ {place}{shlex.join(command)}{after}"))

    def run(
        self,
        *command: str,
        expect: int = 0,
        answer: str | None = None,
        reads: Path | None = None,
        inside: Path | None = None,
        quiet: bool = False,
    ) -> str:
        """Runs one command line, prints it with its output (not the output when `quiet`), and returns that output.

        `answer` is typed at its question, `reads` becomes its standard input, `inside` is the folder it runs in. Raises
        UnexpectedError when it returns another code than `expect`.
        """
        after = f" < {reads.relative_to(self.folder)}" if reads else ""
        self.show_command(command, after=after, inside=inside)
        typed = reads.read_bytes() if reads else (answer + "\n").encode() if answer else b""
        try:
            done = subprocess.run(
                command,
                input=typed,
                stdout=subprocess.PIPE,
                stderr=None if quiet else subprocess.STDOUT,
                cwd=inside or self.folder,
                env=self.environment,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnexpectedError(f"{command[0]} could not be run to its end: {error}") from error
        output = done.stdout.decode("utf-8", "backslashreplace")
        if answer:  # no terminal has shown what was typed, nor the end of that line
            output = output.replace(QUESTION_END, f"{QUESTION_END}{answer}\n", 1)
        if not quiet or done.returncode != expect:
            self._show_output(output)
        if done.returncode != expect:
            raise UnexpectedError(f"exit code {done.returncode}, where {expect} was expected")
        if expect:
            self.say(f"  (exit code {expect}, as it must be)")
        return output

    def _show_output(self, output: str) -> None:
        lines = output.rstrip().splitlines()
        for line in lines[:MAX_LINES]:
            self.say(f"  {line}")
        if len(lines) > MAX_LINES:
            self.say(f"  … and {len(lines) - MAX_LINES} more lines")

    def _strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._bold else text


class Server:
    """A command that runs beside the others until it is stopped. Everything it prints is kept in `log`."""

    def __init__(self, terminal: Terminal, command: Sequence[str], log: Path) -> None:
        terminal.show_command(command, after=" &")
        self._started = threading.Event()
        self._first_line = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=terminal.folder,
            env=terminal.environment,
        )
        if self._process.stderr is None:
            raise UnexpectedError("the server has no standard error")
        self._reader = threading.Thread(target=self._keep, args=(self._process.stderr, log))
        self._reader.start()

    def _keep(self, stream: IO[bytes], log: Path) -> None:
        with stream, log.open("w", encoding="utf-8") as file:
            for raw in stream:
                line = raw.decode("utf-8", "backslashreplace").rstrip()
                print(line, file=file, flush=True)
                if line.startswith("listening on "):
                    self._first_line = line
                    self._started.set()
        self._started.set()  # it has ended: nobody needs to wait any longer

    def wait_for_port(self) -> tuple[str, int]:
        """The line in which it says where it listens, and the port. Raises UnexpectedError when it never does."""
        self._started.wait(TIMEOUT_SECONDS)
        port = self._first_line.rpartition(":")[2]
        if not port.isdecimal():
            raise UnexpectedError("the server did not say where it listens")
        return self._first_line, int(port)

    def stop(self) -> bool:
        """Asks it to end, and makes sure of it. Whether it ended by itself."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        finally:
            self._reader.join()
        return True
