"""The house as the linters cannot see it: what pure rooms may name and call, and what a start may load."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "evidencesync"
PURE_ROOMS = ("evidence", "delta", "protocol", "custody")
PURE_FILES = [PACKAGE / "errors.py", PACKAGE / "limits.py"]
PURE_FILES += sorted(file for room in PURE_ROOMS for file in (PACKAGE / room).rglob("*.py"))

# Only what is listed may be imported: a list of what is refused would never be complete.
PURE_STANDARD_LIBRARY = frozenset(
    """
    __future__ abc array base64 binascii bisect collections collections.abc contextlib dataclasses datetime difflib enum fnmatch
    functools hashlib heapq hmac io itertools json math operator re shlex string struct textwrap types typing unicodedata zlib
    """.split()
)
PURE_PACKAGES = frozenset({"blake3", "cryptography", "msgspec", "pyfastcdc", "zstandard"})

# What opens a file, prints, asks, loads code or looks around, without an import.
IMPURE_BUILTINS = frozenset({"open", "print", "input", "breakpoint", "exec", "eval", "compile", "__import__"})
# What reads a clock or the machine, by a name that an allowed module has.
IMPURE_ATTRIBUTES = frozenset(
    {
        "datetime.now",
        "datetime.today",
        "datetime.utcnow",
        "date.today",
        "io.open",
        "io.open_code",
        "io.FileIO",
        "hashlib.file_digest",
        "hashlib.open",
        "x509.load_default_certs",
    }
)


def impure_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        else:
            continue
        for name in names:
            root = name.partition(".")[0]
            if root != "evidencesync" and root not in PURE_PACKAGES and name not in PURE_STANDARD_LIBRARY:
                yield f"line {node.lineno}: imports {name}"


def impure_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in IMPURE_BUILTINS:
            yield f"line {node.lineno}: uses {node.id}"
        elif isinstance(node, ast.Attribute):
            dotted = ".".join(ast.unparse(node).split(".")[-2:])
            if dotted in IMPURE_ATTRIBUTES:
                yield f"line {node.lineno}: uses {dotted}"
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"line {node.lineno}: is asynchronous"
        elif isinstance(node, ast.Global):
            yield f"line {node.lineno}: keeps global state"


def impurities(source: str) -> list[str]:
    tree = ast.parse(source)
    return [*impure_imports(tree), *impure_calls(tree)]


@pytest.mark.parametrize("file", PURE_FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_pure_room_touches_nothing_outside_its_arguments(file: Path) -> None:
    assert impurities(file.read_text(encoding="utf-8")) == []


def test_every_pure_room_was_looked_at() -> None:
    rooms = {file.relative_to(PACKAGE).parts[0] for file in PURE_FILES}
    assert rooms == {*PURE_ROOMS, "errors.py", "limits.py"}


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import os.path",
        "from os import path",
        "import time as t",
        "from pathlib import Path",
        "from asyncio import Queue",
        "import random",
        "import socket, re",
        "import rich.console",
        "from . import sibling",
        "def f():\n    import logging",
        "open('x')",
        "print(1)",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as d\nd.datetime.now(d.UTC)",
        "import io\nio.open('x')",
        "async def f(): ...",
        "def f():\n    global x\n    x = 1",
    ],
)
def test_an_impure_line_is_found(source: str) -> None:
    assert impurities(source) != []


def test_one_module_alone_speaks_http_and_one_command_alone_uses_it() -> None:
    """The exception to promise 9. The linters ban `http` and `urllib.request` elsewhere; a `noqa` must not open a second door."""
    doors, users = [], []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "urllib.request" in text or "http.client" in text:
            doors.append(file.name)
        if "evidencesync.authority" in text:
            users.append(file.name)
    assert (doors, users) == (["authority.py"], ["timestamp_commands.py"])


def test_a_start_for_help_does_not_load_the_network() -> None:
    """`--help` is to be quick: asyncssh alone would take longer than all the rest."""
    assert loaded_by("evidencesync.cli.app", "asyncio", "asyncssh") == []


@pytest.mark.parametrize("module", ["evidencesync.cli.commands", "evidencesync.verify.audit", "evidencesync.cli.push_command"])
def test_only_a_timestamp_loads_what_timestamps_need(module: str) -> None:
    """Certificates take 60 ms to load."""
    assert loaded_by(module, "cryptography.x509", "evidencesync.custody.cms", "urllib.request", "http.client") == []


def loaded_by(module: str, *unwanted: str) -> list[str]:
    """Which of these modules an import brings along."""
    script = f"import sys, {module}; print(*set({unwanted!r}) & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return loaded.stdout.split()


def rooms_of_public_classes() -> dict[str, set[str]]:
    """The rooms in which each public class is defined, by its name."""
    rooms: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        room = file.relative_to(PACKAGE).parts[0]
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms.setdefault(node.name, set()).add(room)
    return rooms


def test_no_public_class_name_stands_in_two_rooms() -> None:
    doubled = {name: rooms for name, rooms in rooms_of_public_classes().items() if len(rooms) > 1}
    assert not doubled


def test_every_module_and_test_that_a_page_names_is_there() -> None:
    """A page that names a file which was moved sends its reader nowhere."""
    root = PACKAGE.parent
    there = {str(file.relative_to(base)) for base in (root, PACKAGE) for file in base.rglob("*.py") if ".venv" not in file.parts}
    names = {name.rpartition("/")[2] for name in there}
    missing = [
        f"{page.name}: {named}"
        for page in (*sorted((root / "docs").glob("*.md")), root / "README.md")
        for named in re.findall(r"`((?:\w+/)*\w+\.py)`", page.read_text())
        if named not in (there if "/" in named else names)
    ]
    assert missing == []


@pytest.mark.parametrize(("kept_out", "allowed"), [("asyncssh", "ssh"), ("rich", "cli")])
def test_a_contract_that_keeps_a_library_to_one_room_names_every_other(kept_out: str, allowed: str) -> None:
    contracts = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [sources] = [one["source_modules"] for one in contracts if one.get("forbidden_modules", [""])[0] == kept_out]
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {source.partition(".")[2] for source in sources} - {allowed} <= {"__init__", "__main__", "exit_codes"}


def test_no_form_of_a_document_is_learned_by_two_threads_at_once() -> None:
    """msgspec crashes the interpreter then: a server's first two sessions. A module's decoders are made when it is imported."""

    def is_late(call: ast.Call) -> bool:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        decodes = name == "decode" and any(word.arg == "type" for word in call.keywords)
        return decodes or (name in {"Decoder", "convert"} and ast.unparse(call.func).startswith("msgspec."))

    late = [
        f"{file.relative_to(PACKAGE)}: {function.name}: {ast.unparse(node)}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and is_late(node)
    ]
    assert late == ["vault/settings.py: parse_settings: msgspec.convert(fields, VaultSettings)"]
