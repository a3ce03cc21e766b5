"""Ways to change the bytes of a document, each with a name, and things that are no regular files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.tamper.row import Change


def cut(count: int | None) -> Change:
    """Without its last bytes, or its second half."""
    return lambda data: data[: len(data) // 2] if count is None else data[:-count]


def flipped(offset: int = -2) -> Change:
    """One bit changed."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[offset] ^= 1
        return bytes(changed)

    return change


# What can happen to any file.
ANY: Final[dict[str, Change]] = {
    "emptied": lambda data: b"",
    "cut off by a byte": cut(1),
    "cut off by half": cut(None),
    "a newline longer": lambda data: data + b"\n",
    "a zero byte longer": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "zeros of the same size": lambda data: bytes(len(data)),
    "a bit changed": flipped(),
}
# What can happen to text, and leaves its meaning to a careless reader.
TEXT: Final[dict[str, Change]] = {
    "with CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "in capitals": lambda data: data.upper(),
    "with a blank line": lambda data: data.replace(b"\n", b"\n\n", 1),
}


def recoded(write: Callable[[Any], str]) -> Change:
    """The same JSON values, written otherwise."""
    return lambda data: write(json.loads(data)).encode()


def _doubled(data: bytes) -> bytes:
    first, _, rest = data.partition(b",")
    return first + b"," + first.lstrip(b"{\n ") + b"," + rest


JSON: Final[dict[str, Change]] = {
    "as compact JSON": recoded(lambda value: json.dumps(value, separators=(",", ":")) + "\n"),
    "with its keys sorted": recoded(lambda value: json.dumps(dict(reversed(value.items())), indent=2) + "\n"),
    "with an unknown field": recoded(lambda value: json.dumps({**value, "more": 1}, indent=2) + "\n"),
    "with a field twice": _doubled,
    "with tabs": recoded(lambda value: json.dumps(value, indent="\t") + "\n"),
    "with escaped letters": lambda data: data.replace(b"evidencesync", b"evidences\\u0079nc", 1),
    "nested in a list": lambda data: b"[" + data.strip() + b"]\n",
}


def with_field(path: str, value: object) -> Change:
    """Another value in a field of an indented document."""

    def change(data: bytes) -> bytes:
        document: Any = msgspec.json.decode(data)
        *outer, last = path.split(".")
        part = document
        for name in outer:
            part = part[name]
        part[last] = value
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"

    return change


def _socket(place: Path) -> None:
    os.mknod(place, stat.S_IFSOCK | 0o644)  # bind(2) takes short paths only


def _device(place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))


# What is no regular file.
TYPES: Final[dict[str, Callable[[Path], object]]] = {
    "a FIFO": os.mkfifo,
    "a socket": _socket,
    "a link to endless zeros": lambda place: place.symlink_to("/dev/zero"),
    "a link to nowhere": lambda place: place.symlink_to("nowhere"),
    "a folder": Path.mkdir,
}
if os.geteuid() == 0:  # nobody else can make one
    TYPES["a device"] = _device
