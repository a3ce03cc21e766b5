"""The options that choose what is read of a source, and the rules that are made of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from evidencesync.cli.number_format import parse_size
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand, read_named
from evidencesync.limits import MAX_FILES_FROM

if TYPE_CHECKING:
    from evidencesync.source.filters import FilterRules

_Patterns = list[str] | None


@dataclasses.dataclass(frozen=True, slots=True)
class FilterChoice:
    """What of the source is read. Every rule stands in the manifest, and so does what it left out."""

    GROUP: ClassVar = "What is read"

    exclude: Annotated[
        _Patterns,
        typer.Option(metavar="PATTERN", help="Leave out what matches (.gitignore syntax); recorded; may be repeated."),
    ] = None
    include: Annotated[
        _Patterns,
        typer.Option(metavar="PATTERN", help="Keep what matches despite --exclude, a folder with its content; may be repeated."),
    ] = None
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Leave out larger files: 500K, 1.5G (K is 1024), or a number of bytes.")
    ] = None
    one_file_system: Annotated[
        bool,
        typer.Option("--one-file-system", "-x", help="Leave out folders of other file systems: mounts, Btrfs subvolumes."),
    ] = False
    files_from: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Take only what FILE ('-': stdin) lists, one path a line, relative to SOURCE."),
    ] = None
    files_from0: Annotated[
        str | None, typer.Option("--files-from0", "-0", metavar="FILE", help="As --files-from, with a NUL after each path.")
    ] = None

    allow_empty: Annotated[
        bool,
        typer.Option("--allow-empty", help="Acquire even if the filters leave only folders, or no listed name exists."),
    ] = False

    def rules(self, warn: Callable[[str], None]) -> FilterRules:
        """The rules. Calls `warn` for an option without an effect.

        Raises UsageError for options that are malformed or contradictory, and for a list that cannot be read.
        """
        from evidencesync.source.filters import FilterRules
        from evidencesync.source.listed import ListedNames

        if self.files_from is not None and self.files_from0 is not None:
            raise UsageError("--files-from and --files-from0 exclude one another")
        if self.include and not self.exclude:
            warn("without --exclude an --include does nothing: it keeps what an --exclude leaves out (--exclude '*': everything)")
        listed = None
        if self.files_from is not None:
            listed = ListedNames.parse(_read_list(self.files_from), b"\n")
        elif self.files_from0 is not None:
            listed = ListedNames.parse(_read_list(self.files_from0), b"\0")
        return FilterRules.from_patterns(
            self.exclude or (),
            self.include or (),
            max_size=parse_size(self.max_size) if self.max_size is not None else None,
            one_file_system=self.one_file_system,
            listed=listed,
        )


def _read_list(name: str) -> bytes:
    """The bytes of a list of files; `-` is stdin. Raises UsageError if it cannot be read, or is too long."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(MAX_FILES_FROM + 1) if sys.stdin is not None else b""
        else:
            content = read_named(expand(name), MAX_FILES_FROM)
    except OSError as error:
        raise UsageError(f"cannot read the list of files {safe_text(name, 200)}: {error.strerror}") from error
    if len(content) > MAX_FILES_FROM:
        raise UsageError(f"a list of files may have {MAX_FILES_FROM} bytes: {safe_text(name, 200)}")
    return content
