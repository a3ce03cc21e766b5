"""Encrypts a stream for recipients with age while it is written. Source: age-encryption.org/v1; rage (pyrage) does the work.

No plain bytes are written to a disk, and at most a block of them is in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from evidencesync.custody.publickey import PublicKey
from evidencesync.errors import EvidenceSyncError, InternalError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand, read_named
from evidencesync.limits import MAX_RECIPIENTS, MAX_RECIPIENTS_FILE
from evidencesync.optional_parts import missing_part

_KINDS: Final = ("age1", "ssh-ed25519 ", "ssh-rsa ")
_SECRETS: Final = ("AGE-SECRET-KEY", "PRIVATE KEY")
_HINT: Final = "A recipient is an SSH public key (ssh-ed25519, ssh-rsa) or age1..., or a file with one on each line."


@dataclass(frozen=True, slots=True)
class Recipient:
    """A key that can decrypt the export. `fingerprint` is SHA256:... of an SSH key; a short age key stands for itself."""

    key: Any
    fingerprint: str


class Target(Protocol):
    """Where the encrypted bytes go."""

    def write(self, data: bytes, /) -> int:
        """All of it."""
        ...


def load_recipients(given: Iterable[str]) -> list[Recipient]:
    """Loads recipients that are given as keys, or as files of keys; each once. Raises UsageError, also without rage."""
    rage = _rage()
    found: dict[str, Recipient] = {}
    for text in given:
        for line, where in _lines_of(text):
            recipient = _recipient(rage, line, where)
            found[recipient.fingerprint] = recipient
    if len(found) > MAX_RECIPIENTS:
        raise UsageError(f"{len(found)} recipients are given; the limit is {MAX_RECIPIENTS}")
    return list(found.values())


def encrypt_blocks(blocks: Iterable[bytes], target: Target, recipients: list[Recipient]) -> None:
    """Writes the encryption of these bytes. Raises what making them raises, and OSError from writing."""
    rage = _rage()
    source, sink = _Source(blocks), _Sink(target)
    try:
        rage.encrypt_io(source, sink, [one.key for one in recipients])
    except Exception as error:
        raised = source.raised or sink.raised
        if raised is not None:  # rage raises it again as another type
            raise raised from None
        if isinstance(error, EvidenceSyncError):
            raise
        raise InternalError(f"encrypting failed: {safe_text(str(error), 200)}") from error
    if source.raised is not None or sink.raised is not None or not source.ended:
        raise source.raised or sink.raised or InternalError("encrypting ended before all was read")


class _Source:
    """The stream that rage reads from. Keeps an exception that reading raises."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._block = memoryview(b"")
        self.raised: BaseException | None = None
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end."""
        if self.raised is not None:
            raise self.raised
        try:
            while not self._block:
                following = next(self._blocks, None)
                if following is None:
                    self.ended = True
                    return b""
                self._block = memoryview(following)
        except BaseException as error:
            self.raised = error
            raise
        part, self._block = self._block[:size], self._block[size:]
        return bytes(part)


class _Sink:
    """What rage writes to."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.raised: BaseException | None = None

    def write(self, data: bytes) -> int:
        """All of it."""
        try:
            self._target.write(data)
        except BaseException as error:
            self.raised = error
            raise
        return len(data)

    def flush(self) -> None:
        """Does nothing: the owner of the file flushes it."""


def _rage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise missing_part(error, "encryption", "encrypt") from error
    return pyrage


def _lines_of(text: str) -> Iterator[tuple[str, str]]:
    """Yields the keys of an argument, each with its place for messages."""
    if text.startswith(_KINDS):
        yield text.strip(), "the recipient"
        return
    shown = safe_text(text, 100) if not any(secret in text for secret in _SECRETS) else "a private key"
    try:
        data = read_named(expand(text), MAX_RECIPIENTS_FILE)
    except (OSError, ValueError) as error:
        raise UsageError(f"neither a recipient nor a file that can be read: {shown}", hint=_HINT) from error
    if len(data) > MAX_RECIPIENTS_FILE:
        raise UsageError(f"{shown} is larger than any list of recipients ({MAX_RECIPIENTS_FILE} bytes)")
    lines = [line.strip() for line in io.StringIO(data.decode("utf-8", "replace"))]
    if any(secret in line for line in lines for secret in _SECRETS):
        raise UsageError(
            f"{shown} holds a private key", hint="Name the public part: the .pub file, or what age-keygen -y prints."
        )
    keys = [(line, f"line {number} of {shown}") for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"{shown} names no recipient", hint=_HINT)
    yield from keys


def _recipient(rage: Any, line: str, where: str) -> Recipient:
    try:
        if line.startswith("age1"):
            return Recipient(rage.x25519.Recipient.from_str(line), line)
        if line.startswith(_KINDS):
            return Recipient(rage.ssh.Recipient.from_str(line), PublicKey.from_line(line).fingerprint)
    except (rage.RecipientError, EvidenceSyncError) as error:
        raise UsageError(f"{where} is not a key that age can seal for: {safe_text(str(error), 200)}", hint=_HINT) from error
    raise UsageError(f"{where} is not a key that age can seal for", hint=_HINT)
