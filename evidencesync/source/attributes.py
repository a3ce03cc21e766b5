"""Extended attributes (ACLs and security labels among them), read without opening what must not be opened."""

from __future__ import annotations

import base64
import binascii
import errno
import os
from typing import Final

from evidencesync.evidence.path import to_json_fields
from evidencesync.limits import MAX_ATTRIBUTES, MAX_XATTR_NAME

Attributes = dict[str, str]
"""Names and values (base64), sorted by name. A name that is not clean UTF-8 is `base64:` and its base64."""

_ENCODED: Final = "base64:"  # no kernel name space is called so
_NO_SUPPORT: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_BY_NAME: Final = b"/proc/self/fd/%d/%b"  # one name below a descriptor: as safe as openat(2), and it opens nothing


class AttributeReader:
    """Reads extended attributes; remembers which file systems have none. For one thread.

    `unread` counts attributes that the system listed but would not give, or that a manifest can not hold, and entries
    whose list it would not give: a manifest must say so when it is not 0. `available` is False where this system has no
    way to read them at all.
    """

    __slots__ = ("_without", "available", "unread")

    def __init__(self) -> None:
        self.available = hasattr(os, "listxattr")
        self.unread = 0
        self._without: set[int] = set()  # devices whose file system has no attributes

    def of_descriptor(self, fd: int, device: int) -> Attributes | None:
        """The attributes of what is open, or None. `device` is its st_dev. The cheap way for what is open anyway."""
        return self._read(fd, device) if device not in self._without else None

    def of_name(self, dir_fd: int, name: bytes, device: int) -> Attributes | None:
        """The attributes of an entry that is not opened: a link, a FIFO, a socket, a device."""
        return self._read(_BY_NAME % (dir_fd, name), device) if device not in self._without else None

    def _read(self, target: int | bytes, device: int) -> Attributes | None:
        if not self.available:
            return None
        try:
            names = os.listxattr(target, follow_symlinks=False) if isinstance(target, bytes) else os.listxattr(target)
        except OSError as error:
            if error.errno in _NO_SUPPORT:
                self._without.add(device)
            else:
                self.unread += 1
            return None
        return self._read_values(target, names) if names else None

    def _read_values(self, target: int | bytes, names: list[str]) -> Attributes | None:
        values: Attributes = {}
        total_bytes = 0
        for name, raw in sorted((_document_name(raw), raw) for raw in map(os.fsencode, names)):
            try:
                value = os.getxattr(target, raw, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since it was listed: then it is not there
                    self.unread += 1
                continue
            total_bytes += len(raw) + len(value)
            if total_bytes > MAX_ATTRIBUTES or len(name) > MAX_XATTR_NAME:
                self.unread += 1
                continue
            values[name] = base64.b64encode(value).decode("ascii")
        return values or None


def attribute_name(name: str) -> bytes:
    """The raw name of an attribute in a manifest. Raises ValueError for what is not in its one correct form."""
    try:
        raw = base64.b64decode(name[len(_ENCODED) :], validate=True) if name.startswith(_ENCODED) else name.encode("utf-8")
    except binascii.Error as error:
        raise ValueError(f"not the base64 of an attribute's name: {name!r}") from error
    if _document_name(raw) != name:
        raise ValueError(f"an attribute's name is not in its one correct form: {name!r}")
    return raw


def _document_name(raw: bytes) -> str:
    text, encoded = to_json_fields(raw)
    if text is not None and not text.startswith(_ENCODED):
        return text
    return _ENCODED + (encoded or base64.b64encode(raw).decode("ascii"))
