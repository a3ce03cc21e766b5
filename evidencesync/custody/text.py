"""Decodes the bytes of signed documents strictly, and checks their text.

The allowed characters are a fixed list (`evidence.display.is_clean`): a document that is valid today stays valid when Unicode
grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from evidencesync.errors import InvalidNameError, MalformedDocumentError, PathEscapeError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time
from evidencesync.limits import MAX_DOCUMENT_FIELDS, MAX_PATH

T = TypeVar("T")

# Everything that msgspec (with its integers and texts) can raise for bytes from outside.
UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)
_ENCODER: Final = msgspec.json.Encoder()


def decode_exactly(decoder: msgspec.json.Decoder[T], line: bytes, what: str) -> T:
    """Decodes a JSON text without spaces, which must be exactly the bytes that encoding its value gives.

    So duplicate keys, other spellings of numbers and escapes, extra spaces and unknown fields are refused. Raises
    MalformedDocumentError, whatever the bytes are.
    """
    try:
        value = decoder.decode(line)
        same = _ENCODER.encode(value) == line
    except UNREADABLE as error:
        raise MalformedDocumentError(f"{what} cannot be read: {safe_text(str(error), 200)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} is not in the one form that a signer writes")
    return value


def encode_readable(document: msgspec.Struct) -> bytes:
    """Encodes a document as indented JSON with a newline at its end: the bytes that are stored and signed."""
    return msgspec.json.format(_ENCODER.encode(document), indent=2) + b"\n"


def decode_readable(decoder: msgspec.json.Decoder[T], data: bytes, limit: int, what: str) -> T:
    """Decodes an indented document, which must be exactly the bytes that `encode_readable` gives."""
    if len(data) > limit:
        raise MalformedDocumentError(f"{what} is {len(data)} bytes long; the limit is {limit}")
    try:
        value = decoder.decode(data)
        same = msgspec.json.format(_ENCODER.encode(value), indent=2) + b"\n" == data
    except UNREADABLE as error:
        raise MalformedDocumentError(f"{what} cannot be read: {safe_text(str(error), 200)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} is not in the one form that a signer writes")
    return value


def check_texts(document: msgspec.Struct, what: str) -> None:
    """Checks every text in a document, keys included: clean, bounded in length and in number."""
    if _is_plain(_ENCODER.encode(document)):
        return
    for count, text in enumerate(_texts(msgspec.to_builtins(document)), 1):
        if count > MAX_DOCUMENT_FIELDS:
            raise MalformedDocumentError(f"{what} has more than {MAX_DOCUMENT_FIELDS} fields")
        if len(text) > 2 * MAX_PATH or not is_clean(text):
            raise MalformedDocumentError(f"{what} holds unclean or overlong text: {safe_text(text, 80)}")


def _is_plain(encoded: bytes) -> bool:
    """Whether a document's JSON alone shows that all its texts are good, as nearly every document's does.

    Printable ASCII without a backslash: no text in it holds anything else, as that would be escaped or other bytes. Each text is
    shorter than the whole, and has two quotation marks of its own.
    """
    short = len(encoded) <= 2 * MAX_PATH and encoded.count(b'"') <= 2 * MAX_DOCUMENT_FIELDS
    return short and encoded.isascii() and b"\\" not in encoded and encoded.decode("ascii").isprintable()


def check_title(title: str, what: str) -> None:
    """Checks a case or item number as `evidence.identity.Title` does."""
    try:
        Title(title)
    except InvalidNameError as error:
        raise MalformedDocumentError(f"{what}: {error.message}") from error


def check_utc_time(utc_time: str, what: str) -> None:
    """Checks that a time exists, and is in its canonical spelling."""
    try:
        same = format_utc_time(parse_utc_time(utc_time)) == utc_time
    except ValueError as error:
        raise MalformedDocumentError(f"{what} holds a time that does not exist: {safe_text(utc_time, 40)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} holds a time in another spelling: {safe_text(utc_time, 40)}")


def check_path_pair(text: str | None, encoded: str | None, limit: int, what: str) -> bytes:
    """Returns the raw bytes of a path that is only stated, never opened (a link's target, the path of the source)."""
    try:
        raw = from_json_fields(text, encoded)
    except PathEscapeError as error:
        raise MalformedDocumentError(f"{what}: {error.message}") from error
    if len(raw) > limit or b"\0" in raw:
        raise MalformedDocumentError(f"{what} is too long, or holds a NUL byte: {safe_text(raw, 80)}")
    return raw


def _texts(value: object) -> Iterable[str]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            pending.extend(part.keys())
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
