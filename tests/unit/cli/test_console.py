from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from evidencesync.cli.console import Console
from evidencesync.cli.guard import guard
from evidencesync.cli.outputs import ErrorOutput, ServeOutput
from evidencesync.errors import CommandKind, PathEscapeError, UsageError
from evidencesync.evidence.display import escape_line, safe_text
from evidencesync.exit_codes import ExitCode

ATTACK = "a\x1b[31mb\u202ec\u2028d\x9be\udcff"


def test_no_line_can_steer_a_terminal() -> None:
    shown = escape_line(ATTACK)
    assert shown == r"a\x1b[31mb\u202ec\u2028d\u009be\xff"
    assert escape_line(shown) == shown  # twice is no other than once
    assert escape_line("[bold]ü – “x”[/bold]") == "[bold]ü – “x”[/bold]"


def test_two_names_that_differ_in_what_nobody_sees_are_shown_as_two() -> None:
    for name in ("E1", "名.txt"):
        for code in (0x34F, 0x115F, 0x1160, 0x17B4, 0x180B, 0x2800, 0x3164, 0xFE0F, 0xFFA0, 0xE0101):
            other = name + chr(code)
            for shown in (safe_text(other), safe_text(other.encode()), escape_line(other)):
                assert shown == name + (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")


def test_results_go_to_stdout_and_messages_to_stderr(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console = Console()
    console.print_message("working")
    console.print_result(ServeOutput("x"), ["one", "two \x07"])
    assert tuple(capfdbinary.readouterr()) == (b"one\ntwo \\x07\n", b"working\n")


def test_json_is_one_document_and_nothing_else(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Console(as_json=True).print_result(ServeOutput("[::1]:22"), ["for people"])
    out, err = capfdbinary.readouterr()
    assert json.loads(out) == {"listening": "[::1]:22"}
    assert out.endswith(b"\n")
    assert out.count(b"\n") == 1
    assert err == b""


def test_quiet_drops_messages_but_neither_notes_nor_results_nor_errors(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console = Console(quiet=True)
    console.print_message("dropped")
    console.print_notice("kept")
    console.print_error(UsageError("wrong", hint="right"))
    console.print_result(ServeOutput("x"), ["result"])
    assert tuple(capfdbinary.readouterr()) == (b"result\n", b"kept\nerror: wrong\nhint: right\n")


def test_an_error_in_json_has_code_slug_message_and_hint(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Console(as_json=True).print_error(PathEscapeError(f"path {ATTACK}"))
    out, err = capfdbinary.readouterr()
    assert err == b""
    assert json.loads(out)["error"] == {
        "code": 40,
        "slug": "path-escape",
        "message": r"path a\x1b[31mb\u202ec\u2028d\u009be\xff",
        "hint": PathEscapeError("x").hint_for(CommandKind.CHECKS),
    }


def test_a_traceback_is_shown_only_when_asked_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for verbose in (False, True):
        Console(verbose=verbose).print_error(UsageError("wrong"))
    quiet, loud = capfdbinary.readouterr().err.split(b"error: wrong\n", 1)
    assert b"UsageError" not in quiet
    assert b"UsageError: wrong" in loud


@pytest.mark.parametrize(("typed", "agreed"), [("yes\n", True), ("Y\n", True), ("no\n", False), ("\n", False), ("yess\n", False)])
def test_only_yes_is_yes_as_the_question_says(
    typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert Console().ask("Sure?") is agreed
    assert capfd.readouterr().err == "Sure? [y/yes or n/no] "


def test_nobody_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="nobody answered") as raised:
        Console().ask("Sure?", "Be sure beforehand.")
    assert raised.value.hint == "Be sure beforehand."


@pytest.mark.parametrize(("ended", "code"), [(ExitCode.COMPLETE, 1), (ExitCode.GAPS, 3), (ExitCode.CHAIN, 34)])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_result_that_cannot_be_written_is_a_failure_and_hides_no_verdict(
    as_json: bool, ended: ExitCode, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        console = Console(as_json=as_json)
        console.print_result(ServeOutput("x"), ["line"])
        assert console.exit_code_of(ended) == code
        monkeypatch.undo()
    assert capfd.readouterr().err == "error: the result could not be written to stdout: No space left on device\n"


def test_an_error_that_stdout_does_not_take_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert guard(Console(as_json=True), _raise_usage) == 2
        monkeypatch.undo()
    assert capfd.readouterr().err.splitlines()[:2] == ["error: wrong", "hint: right"]


def _raise_usage() -> ExitCode:
    raise UsageError("wrong", hint="right")


@pytest.mark.parametrize("kind", CommandKind)
def test_a_reader_that_has_gone_is_no_failure_of_a_list_and_one_of_a_verdict(
    kind: CommandKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "w", encoding="utf-8") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        console = Console(kind=kind)
        console.print_result(ServeOutput("x"), ["line"])
        assert console.exit_code_of(ExitCode.COMPLETE) == (0 if kind is CommandKind.SHOWS else 1)
        monkeypatch.undo()


def test_a_closed_stdout_is_one_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    for kind in CommandKind:
        console = Console(kind=kind)
        console.print_result(ServeOutput("x"), ["line"])
        assert console.exit_code_of(ExitCode.COMPLETE) == 1


def test_a_stdin_that_cannot_be_read_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
    with (tmp_path / "binary").open(encoding="utf-8") as no_text:
        for stdin in (None, no_text):
            monkeypatch.setattr("sys.stdin", stdin)
            with pytest.raises(UsageError, match="nobody answered"):
                Console().ask("Sure?")


@pytest.mark.parametrize("reason", ["json", "quiet", "dumb", "no terminal"])
def test_there_are_no_bars_where_nobody_wants_them(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return reason != "no terminal"

    monkeypatch.setattr("sys.stderr", Screen())
    monkeypatch.setenv("TERM", "dumb" if reason == "dumb" else "xterm")
    console = Console(as_json=reason == "json", quiet=reason == "quiet")
    assert not console.is_live
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")  # which is about colours alone
    if reason != "no terminal":
        assert Console().is_live


def test_the_error_document_is_of_its_own_kind() -> None:
    assert ErrorOutput.__struct_fields__ == ("error",)


class FakeTerminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def printed_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *lines: str) -> str:
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", FakeTerminal(screen))
    Console().print_result(ServeOutput("x"), lines)
    return screen.getvalue().decode()


def test_only_a_terminal_without_no_color_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert printed_on_a_terminal(monkeypatch, "verdict: PASS", "x\x1b[31m") == "\x1b[32mverdict: PASS\x1b[0m\nx\\x1b[31m\n"
    assert (
        printed_on_a_terminal(monkeypatch, "verdict: PASS, as the vault is called") == "verdict: PASS, as the vault is called\n"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed_on_a_terminal(monkeypatch, "verdict: PASS") == "verdict: PASS\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert printed_on_a_terminal(monkeypatch, "verdict: PASS") == "verdict: PASS\n"
