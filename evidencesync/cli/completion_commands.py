"""`completion`: lets a shell complete commands and options when TAB is pressed. typer does the work, and knows the shells.

A shell that completes a line starts this program with a variable set (`COMPLETE`), and reads what it prints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.completion

from evidencesync.cli.command import Run, command, group
from evidencesync.cli.command_table import COMPLETE, PROGRAM
from evidencesync.errors import CommandKind, StorageError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.exit_codes import ExitCode
from evidencesync.home import own_folder

_DATA: Final = ("XDG_DATA_HOME", ".local", "share")
_PLACES: Final[Mapping[str, tuple[tuple[str, ...], str, str]]] = {
    "bash": (_DATA, "bash-completion/completions", PROGRAM),
    "zsh": (_DATA, "zsh/site-functions", f"_{PROGRAM}"),
    "fish": (("XDG_CONFIG_HOME", ".config"), "fish/completions", f"{PROGRAM}.fish"),
}
"""By shell: the user's folder for data or settings, the folder below it where the shell looks, and the name of the file."""
_FIRST_TIME: Final = f'[[ $zsh_eval_context[-1] == loadautofunc ]] && _{PROGRAM}_completion "$@"\n'
"""zsh loads the file when TAB is pressed for the first time. typer's script only defines a function then."""
_SHELLS: Final = ", ".join(_PLACES)

Shell = Annotated[str | None, typer.Argument(metavar="[SHELL]", help=f"{_SHELLS}. [default: as SHELL says]", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Adds the group `completion`."""
    completion = group(app, "completion", "Lets your shell complete commands and options with TAB.")
    examples = ("evidencesync completion install zsh", "# For all accounts:", "evidencesync completion show bash > evidencesync")
    command(completion, "install", *examples[:1], kind=CommandKind.CHANGES)(install)
    command(completion, "show", *examples[1:], kind=CommandKind.SHOWS)(show)


def show(run: Run, shell: Shell = None) -> ExitCode:
    """Prints what a shell needs to complete commands and options, for a place of your own choice."""
    from evidencesync.cli.completion_outputs import CompletionOutput

    name = _shell(shell)
    text = completion_script(name)
    run.console.print_result(CompletionOutput(name, None, text), text.splitlines())
    return ExitCode.COMPLETE


def install(run: Run, shell: Shell = None) -> ExitCode:
    """Writes a file into the folder where your shell looks for completions, in place of an earlier one.

    No settings of the shell are changed. Where its settings need a line more, the line is printed.
    """
    from evidencesync.cli.completion_outputs import CompletionOutput
    from evidencesync.localstate.files import KeptFolder, replace_file

    name = _shell(shell)
    kind, below, file = _PLACES[name]
    folder, text = own_folder(*kind) / below, completion_script(name)
    try:
        with KeptFolder(folder, hint="Use `evidencesync completion show`, and write the file yourself.", follow=True) as kept:
            replace_file(kept.fd, file, text.encode())
    except OSError as error:
        raise StorageError(
            f"{safe_text(str(folder / file), 200)} cannot be written: {error.strerror}",
            hint="Use `evidencesync completion show`, and write the file yourself.",
        ) from error
    shown = safe_text(str(folder / file))
    lines = [f"{shown} is written; a new {name} reads it", *_needed(name, folder, folder / file)]
    run.console.print_result(CompletionOutput(name, shown, text), lines)
    return ExitCode.COMPLETE


def _shell(given: str | None) -> str:
    """The shell that is meant. Raises UsageError."""
    name = given or Path(os.environ.get("SHELL", "")).name
    if name in _PLACES:
        return name
    if not name:
        raise UsageError("it is not known which shell you use", hint=f"Name it: {_SHELLS}.")
    raise UsageError(f"there is no completion for the shell '{safe_text(name, 60)}'", hint=f"There is one for: {_SHELLS}.")


def _needed(shell: str, folder: Path, file: Path) -> list[str]:
    """What the shell's own settings must have."""
    if shell == "bash":
        told = "bash reads it by itself where the package bash-completion is installed; else ~/.bashrc needs this line:"
        return [told, f"  source {shell_text(str(file))}"]
    if shell == "zsh":
        line = f"  fpath+=({shell_text(str(folder))}); autoload -Uz compinit; compinit"
        return ["zsh finds it where ~/.zshrc has this line:", line]
    return []


def completion_script(shell: str) -> str:
    """What a shell reads: typer's script, which starts this program whenever TAB is pressed."""
    get_script: Any = typer.completion.get_completion_script  # type: ignore[attr-defined]  # typer has it from a room of its own
    script = get_script(prog_name=PROGRAM, complete_var=COMPLETE, shell=shell)
    return f"{script}\n{_FIRST_TIME if shell == 'zsh' else ''}"
