"""The last thing that happens to a line before it is printed."""

from __future__ import annotations

from evidencesync.evidence.display import is_unsafe, safe_text


def shield(line: str) -> str:
    """A line that is already made for people, with whatever could still steer a terminal escaped.

    Values from evidence and peers go through `safe_text` where a line is put together; this is the second lock.
    """
    if line.isascii() and line.isprintable():
        return line
    return "".join(safe_text(character) if is_unsafe(character) else character for character in line)
