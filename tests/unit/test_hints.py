"""A hint ends with a full stop; or, after a colon, with what is typed or pasted, and nothing behind that."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import evidencesync
from evidencesync.errors import CommandKind, IncompleteError, StorageError
from evidencesync.ingest.room import PlannedPush, show_room
from tests.support.bench_of_evidence import make_bench

_PACKAGE = Path(evidencesync.__file__).parent
_COMPUTED = "{}"
_NAMES = ("hint", "default_hint")


def texts(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression may be, with `{}` for what is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else _COMPUTED for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.BinOp):
        yield from (_COMPUTED + text for text in texts(node.right))


def hints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            is_of_class = isinstance(node.func, ast.Name) and node.func.id == "_hints"
            for keyword in node.keywords:
                if is_of_class or keyword.arg in _NAMES:
                    yield from texts(keyword.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in _NAMES:
            yield from texts(node.value)


def ends_well(hint: str) -> bool:
    is_command_then_stop = re.search(r": evidencesync [^.;,]*[^.]\.$", hint) is not None
    return not is_command_then_stop and (hint.endswith((".", "?", _COMPUTED)) or ": " in hint)


def test_every_hint_ends_with_a_full_stop_or_with_what_is_typed() -> None:
    found = [
        (file.name, hint)
        for file in sorted(_PACKAGE.rglob("*.py"))
        for hint in hints(ast.parse(file.read_text("utf-8")))
        if hint[:1].isalpha()
    ]
    assert len(found) > 200
    assert [one for one in found if not ends_well(one[1])] == []


def test_what_ends_badly_is_seen() -> None:
    bad = ("Leave it out", "Make one with: evidencesync init VAULT.")
    assert not any(map(ends_well, bad))
    assert all(map(ends_well, ("Leave it out.", "Make one with: evidencesync init VAULT", "Is it there?")))


def test_nobody_who_reads_a_vault_is_told_that_nothing_was_published() -> None:
    refused = StorageError("could not list cases: Input/output error")
    assert IncompleteError.of(refused).hint == refused.hint_for(CommandKind.SHOWS)
    assert IncompleteError.of(StorageError("no", hint="Mount the disk.")).hint == "Mount the disk."


def test_a_push_that_is_planned_into_a_vault_that_takes_nothing_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    refusal = show_room(bench.vault, bench.name, PlannedPush("ana@lab")).refusal
    assert refusal is not None
    assert refusal.hint is not None
    assert "push as the account that writes to the vault" in refusal.hint
