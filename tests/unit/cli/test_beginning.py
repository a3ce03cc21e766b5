"""What is done before a command line is parsed: it changes nothing but the time it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evidencesync.cli import app
from evidencesync.cli.console import Console
from tests.support.patience import PATIENCE_SECONDS
from tests.support.prepared_program import PreparedProgram, Request

pytestmark = [pytest.mark.usefixtures("measured_processes"), pytest.mark.slow]  # what is started here is seen nowhere else

SLOW = ["asyncio", "asyncssh", "pydantic", "rich", "typer"]


@pytest.mark.parametrize("vault", ["no-vault", ".", "a:b", "x" * 300, "\x1b[31m", "bäd"])
def test_what_sshd_starts_fails_as_the_parsed_command_does(
    vault: str, private_home: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, parsed = (_outcome(["serve", "--vault", vault], extra) for extra in ([], ["--config", "none"]))
    assert plain == parsed
    assert plain[0] == 10
    assert plain[1].startswith(b"\nEVIDENCESYNC-STREAM")  # the client is told, too


def test_a_broken_settings_file_is_said_by_what_sshd_starts(tmp_path: Path, private_home: object) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("nonsense = 1\n")
    plain, parsed = (
        _outcome(["serve", "--vault", "v"], extra, EVIDENCESYNC_CONFIG=str(broken)) for extra in ([], ["--config", str(broken)])
    )
    assert plain == parsed
    assert b"there is no setting called nonsense" in plain[2]


def test_who_has_no_memory_left_to_say_so_says_so_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the error that says it needs more memory than there is."""

    def refuse(*_: object, **__: object) -> int:
        raise MemoryError

    monkeypatch.setattr(app, "_run", refuse)
    monkeypatch.setattr(Console, "print_error", refuse)
    assert app.main(["list", "vault"]) == 1
    assert capfd.readouterr().err.startswith("error: out of memory\nhint: ")


def _outcome(arguments: list[str], extra: list[str], **environment: str) -> tuple[int, bytes, bytes]:
    request = Request.make([*arguments, *extra], Path.cwd(), {**os.environ, **environment})
    return PreparedProgram.of_this_run().run(request, b"", PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--vault", ""],
        ["serve", "--vault", "--help"],
        ["serve", "--vault=v"],
        ["serve", "--vault"],
        ["serve", "--vault", "v", "-v"],
        ["-v", "--vault", "v"],
        [],
    ],
)
def test_everything_else_is_parsed(arguments: list[str]) -> None:
    assert not app._is_plain_serve(arguments)


def test_what_sshd_starts_imports_nothing_for_people(tmp_path: Path, private_home: object) -> None:
    script = (
        "import sys; from evidencesync.cli.app import main; main(['serve', '--vault', sys.argv[1]]); "
        f"print('imported:', *sorted(set({SLOW}) & set(sys.modules)), file=sys.stderr)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False, env=plain)
    assert done.stderr.splitlines()[-1] == b"imported:"


def test_ctrl_c_while_a_text_is_executed_ends_with_its_own_code(tmp_path: Path) -> None:
    """As dataclasses are made, for example. With `python -m` the interpreter would kill itself with SIGINT at its end."""
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom evidencesync.cli import app\n"
        "def interrupted(*_):\n    exec('raise KeyboardInterrupt')\n"
        "app._run = interrupted\nsys.exit(app.main())\n"
    )
    done = subprocess.run([sys.executable, "-m", "interrupted"], capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (130, b"error: interrupted")
