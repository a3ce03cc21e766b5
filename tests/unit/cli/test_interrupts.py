"""Ctrl-C ends a command wherever the interpreter is when it comes."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from evidencesync.cli.outputs import ErrorOutput
from evidencesync.errors import InterruptedRunError

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


WHILE_LOADED = """
import importlib.abc, signal, sys
signal.signal(signal.SIGINT, {disposition})

class Ctrl(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Ctrl())
from evidencesync.cli.start import main
sys.argv = ["evidencesync", *{arguments}]
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["evidencesync.cli.app", "evidencesync.errors", "typer", "evidencesync.cli.catalog_commands"])
def test_ctrl_c_while_modules_are_loaded_is_one_plain_line(module: str) -> None:
    program = WHILE_LOADED.format(module=module, arguments=["list", "no-vault"], disposition="signal.default_int_handler")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_ctrl_c_while_modules_are_loaded_is_one_document_for_a_script() -> None:
    arguments = ["list", "no-vault", "--json"]
    program = WHILE_LOADED.format(module="typer", arguments=arguments, disposition="signal.default_int_handler")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (130, b"")
    said = msgspec.json.decode(done.stdout, type=ErrorOutput, strict=True).error
    assert (said.code, said.slug) == (InterruptedRunError.exit_code, InterruptedRunError.slug)


def test_where_a_shell_had_it_ignored_ctrl_c_is_ignored_while_modules_are_loaded_too() -> None:
    program = WHILE_LOADED.format(module="typer", arguments=["list", "no-vault"], disposition="signal.SIG_IGN")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50, check=False)
    assert done.returncode == 10


def test_a_command_that_has_begun_is_interrupted_and_cleans_up() -> None:
    """A module that a command loads later is loaded inside of it."""
    program = WHILE_LOADED.format(
        module="evidencesync.cli.catalog", arguments=["list", "no-vault"], disposition="signal.default_int_handler"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (130, "error: interrupted")
    assert "hint: " in done.stderr
