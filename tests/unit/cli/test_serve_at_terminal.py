"""A person who lands in `serve`, by a login with a key that may only push, is told so at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("what", [("--vault",), ("--source",), ("--config", "none", "--vault")])
def test_serve_does_not_wait_for_a_person(what: tuple[str, ...]) -> None:
    near, far = os.openpty()
    try:
        command = [sys.executable, "-m", "evidencesync", "serve", *what, "/nowhere"]
        done = subprocess.run(command, stdin=far, capture_output=True, check=False)
    finally:
        os.close(near)
        os.close(far)
    assert (done.returncode, done.stdout) == (2, b"")
    error, hint = done.stderr.decode().splitlines()
    assert error == "error: this is the other end of a push or a pull, and it has nothing to say to a person"
    assert "your key may only push" in hint
