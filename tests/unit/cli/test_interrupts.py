"""Ctrl-C ends a command wherever the interpreter is when it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time, weakref
from evidencesync.cli.interrupts import catch_stop_signals, repeat_lost_interrupts

signal.signal(signal.SIGINT, {disposition})
signal.signal(signal.SIGTERM, signal.SIG_DFL)
catch_stop_signals()
repeat_lost_interrupts()

class Thing: ...

thing = Thing()
lost = weakref.ref(thing, lambda _: signal.raise_signal(signal.{number}))
try:
    del thing
    print("lost", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("number", "disposition"),
    [("SIGINT", "signal.default_int_handler"), ("SIGTERM", "signal.default_int_handler"), ("SIGTERM", "signal.SIG_IGN")],
)
def test_an_interrupt_that_python_lost_in_a_callback_comes_once_more(number: str, disposition: str) -> None:
    program = PROGRAM.format(number=number, disposition=disposition)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout.split(), done.stderr, done.returncode) == (["lost", "interrupted"], "", 0)


def test_what_else_is_lost_in_a_callback_is_shown_as_ever() -> None:
    program = "import weakref\nfrom evidencesync.cli.interrupts import repeat_lost_interrupts\nrepeat_lost_interrupts()\n"
    program += "class Thing: ...\nthing = Thing()\nkept = weakref.ref(thing, lambda _: 1 / 0)\ndel thing\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert "ZeroDivisionError" in done.stderr
