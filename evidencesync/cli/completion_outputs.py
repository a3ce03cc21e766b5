"""What `completion` prints with `--json`."""

from __future__ import annotations

from evidencesync.cli.outputs import Output


class CompletionOutput(Output, frozen=True):
    """A shell, the file that was written for it (null where none was; safe to show), and what stands in it."""

    shell: str
    file: str | None
    script: str
