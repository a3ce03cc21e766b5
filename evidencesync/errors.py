"""Defines every failure that the tool can report, as one tree of exceptions.

Each class has the exit code and the slug that scripts rely on; each instance has one clear line for people
and, where the user can do something about it, a hint. `docs/exit-codes.md` is generated from this module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import ClassVar

from evidencesync.exit_codes import ExitCode


class CommandKind(Enum):
    """The kind of a command. A hint must fit it: a command that only reads has published nothing, and has nothing to resume."""

    ACQUIRES = "acquires evidence into a vault"
    SERVES = "is the other end of an acquisition"
    CHANGES = "changes a vault, or what this machine keeps, but acquires nothing"
    CHECKS = "reads, and states a verdict or makes something from what it reads"
    SHOWS = "shows what is there"


def _hints(**by_kind: str | None) -> Mapping[CommandKind, str | None]:
    """Returns hints by kind of command, in small letters; `reads` is used for those that only read."""
    both = {"reads": ("CHECKS", "SHOWS")}
    return {CommandKind[name]: hint for kind, hint in by_kind.items() for name in both.get(kind, (kind.upper(),))}


_WAIT_HINT = "Wait until the other writer has ended, then run the same command again."
_BAD_INPUT_HINT = "What was read is broken, hostile, or of an incompatible version."
_NO_VAULT_HINT = "Look at the path: a vault is a folder with vault.toml in it."
_AGAIN_HINT = "See first whether it was done, then run the same command again."
_STOPPED_HINTS = _hints(serves=None, changes=_AGAIN_HINT, reads="Run the same command again.")


class EvidenceSyncError(Exception):
    """Base of every failure that the tool reports: one line about the problem, and a hint about the solution.

    `default_hint` is for commands that acquire, and for kinds not in `other_hints`. Neither is inherited without the other.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL
    slug: ClassVar[str] = "internal-error"
    default_hint: ClassVar[str | None] = None
    other_hints: ClassVar[Mapping[CommandKind, str | None]] = {}

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "default_hint" in cls.__dict__ and "other_hints" not in cls.__dict__:
            cls.other_hints = {}

    def hint_for(self, kind: CommandKind) -> str | None:
        """Returns the hint for a command of that kind. A hint that was given to this instance is used for all."""
        return self.hint if self.hint != self.default_hint else self.other_hints.get(kind, self.default_hint)


@contextlib.contextmanager
def hinting(hint: str) -> Iterator[None]:
    """Sets this hint for every error inside, where the usual hints would be untrue because something is done already."""
    try:
        yield
    except EvidenceSyncError as error:
        error.hint = hint
        raise


class InternalError(EvidenceSyncError):
    """A defect of the tool itself."""

    default_hint = "This is a defect of evidencesync; please report it with the output of -v."


class ResourcesError(InternalError):
    """No defect: the system gives this process no more memory, threads, processes or open files."""

    slug = "resources"
    default_hint = (
        "Raise the limit (ulimit -v for memory, -u for threads and processes, -n for open files), or end other programs; "
        "then run the same command again."
    )


class UsageError(EvidenceSyncError):
    """The command line asks for something that makes no sense."""

    exit_code = ExitCode.USAGE
    slug = "usage"


class NothingLeftError(UsageError):
    """No file is in the source, or filters or a list of files leave none."""

    slug = "nothing-left"


class ConfigurationError(UsageError):
    """A settings file, or a vault's own settings, cannot be used."""

    slug = "configuration"


class LaterFormatError(ConfigurationError):
    """A vault has a format that this version does not know. Nothing is said of what is in it, and nothing is written to it."""

    slug = "later-format"
    default_hint = "Use the version of evidencesync that made the vault, or a later one."


class MissingPartError(ConfigurationError):
    """An optional part of the tool that the command needs is not installed."""

    slug = "missing-part"


class RememberedHeadsError(ConfigurationError):
    """The remembered heads of a vault's chains cannot be read or written. Then nothing is compared, and nothing passes."""

    slug = "remembered-heads"


class NoRoomToRememberError(RememberedHeadsError):
    """There is no disk space for the remembered heads."""

    exit_code = ExitCode.NO_SPACE
    slug = "no-room-to-remember"
    default_hint = "Free space on the disk of the state folder (df -h, df -i), or name another folder with EVIDENCESYNC_STATE."


class TrustFileError(ConfigurationError):
    """A file of trusted signers or of revoked keys is invalid. Nothing is trusted by it."""

    slug = "trust-file"


class NoHomeError(UsageError):
    """A file of the user's home folder is needed, and this process has no home folder."""

    slug = "no-home"
    default_hint = "Set HOME to a folder of your own, or name the file itself."


class NoWorkingFolderError(UsageError):
    """A path is relative, and the folder that it is relative to is gone."""

    slug = "no-working-folder"
    default_hint = "Go to another folder (cd), or write every path in full."


class ClockError(UsageError):
    """This machine's clock shows a time that no document can state."""

    slug = "clock"
    default_hint = "Set the clock of this machine (see: date -u), then run the same command again."


class SourceNotFoundError(UsageError):
    """The source to be read does not exist or cannot be opened at all."""

    slug = "source-not-found"


class InvalidNameError(UsageError):
    """A case, item or principal name that cannot be used."""

    slug = "invalid-name"


class NameClashError(InvalidNameError):
    """Two different names would become the same file or folder of a vault, or its file system would change a name."""

    slug = "name-clash"


class UnrepresentableNameError(UsageError):
    """The evidence has names that the format of an export cannot hold. Nothing was written."""

    slug = "unrepresentable-name"


class SourceReadError(EvidenceSyncError):
    """Part of the source could not be read. It is recorded in the manifest; the run goes on and ends with exit 3."""

    exit_code = ExitCode.GAPS
    slug = "source-unreadable"

    def __init__(self, message: str, *, offset: int = 0, errno: int = 0, vanished: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset  # in bytes from the start of the file
        self.errno = errno
        self.vanished = vanished  # what the walk saw is gone, or something else has its name


class IncompleteError(EvidenceSyncError):
    """Something that has to be checked first could not be read or compared: the result is neither good nor bad."""

    exit_code = ExitCode.GAPS
    slug = "incomplete"

    @classmethod
    def of(cls, refused: StorageError) -> IncompleteError:
        """Makes the error for what a vault's disk does not give: nothing is known of it, neither good nor bad."""
        return cls(refused.message, hint=refused.hint_for(CommandKind.SHOWS))


class SourceGapsError(EvidenceSyncError):
    """Part of the source could not be read, and with `--on-read-error fail` nothing is published then."""

    slug = "source-gaps"
    default_hint = "With --on-read-error zero what can be read is published, and what cannot is listed in the manifest."


class NotThereError(EvidenceSyncError):
    """A vault, case, item or acquisition that was named does not exist."""

    exit_code = ExitCode.NOT_THERE
    slug = "not-there"


class VaultNotFoundError(NotThereError):
    """The path is not a vault, or not the vault that this server serves."""

    slug = "vault-not-found"
    default_hint = "Make one with: evidencesync init VAULT. A vault on a server is written: host:/path"
    other_hints = _hints(changes=_NO_VAULT_HINT, reads=_NO_VAULT_HINT)


class LockedError(EvidenceSyncError):
    """Another process is writing to the same item."""

    exit_code = ExitCode.LOCKED
    slug = "locked"
    default_hint = "Wait until the other transfer of this item has ended, then run the same command again."
    other_hints = _hints(changes=_WAIT_HINT, reads=_WAIT_HINT)


class BusyError(LockedError):
    """The server has no place for another session. A push or a pull waits, and tries again up to --retries times."""

    slug = "busy"
    default_hint = "Run the same command again later, or with more --retries."
    other_hints = _hints(serves=None, changes="Run the same command again later.", reads="Run the same command again later.")


class OtherWriterError(LockedError):
    """The vault lies where locks do not hold between machines, and another machine is the one that writes to it."""

    slug = "other-writer"
    default_hint = "See: evidencesync vault writer VAULT"


class ChainGrewError(LockedError):
    """A custody chain has grown since a record was made for it. The record was not added, and none was replaced."""

    slug = "chain-grew"
    default_hint = "Somebody else has added a record meanwhile. Run the same command again."


class HeadMovedError(LockedError):
    """A vault's own chain has gone on since a change of trust was asked for. Nothing was changed."""

    slug = "head-moved"
    default_hint = "Look at what is there now, and run the same command again: evidencesync trust list VAULT"


class VaultKeyChangedError(LockedError):
    """The vault's own key was changed while a session ran that knows the old one. Nothing was published or appended."""

    slug = "vault-key-changed"
    default_hint = "Run the same command again: what has arrived is kept, and does not travel a second time."


class SealedError(LockedError):
    """The item was closed by a signed record."""

    slug = "sealed"
    default_hint = "A sealed item takes no more acquisitions; use another item number."
    other_hints = _hints(changes=None, reads=None)


class SigningKeyError(EvidenceSyncError):
    """A key, an agent or a passphrase does not work."""

    exit_code = ExitCode.KEY
    slug = "signing-key"
    default_hint = "Name the key with --sign-key FILE, or load it into ssh-agent and use --sign-key agent."


class PassphraseError(SigningKeyError):
    """A private key could not be decrypted."""

    slug = "wrong-passphrase"
    default_hint = "Check the passphrase, or load the key into ssh-agent and use --sign-key agent."


class ExposedKeyError(SigningKeyError):
    """A private key's file can be read by others than its owner, so that others may sign with it. It is not used."""

    slug = "exposed-key"
    default_hint = "chmod 600 FILE, and ask who had access."


class NoSpaceError(EvidenceSyncError):
    """The receiving disk or quota is full."""

    exit_code = ExitCode.NO_SPACE
    slug = "no-space"
    default_hint = (
        "Free space on the vault's disk (df -h, and df -i for inodes); nothing was published. What has arrived is kept for the "
        "next run of the same command; what other runs have left behind is removed, after asking, by: evidencesync clean VAULT"
    )
    other_hints = _hints(
        changes="Free space on the vault's disk (df -h, df -i; evidencesync clean VAULT helps), then run the same command again.",
        reads="Free space on the disk that is full (df -h, df -i), then run the same command again.",
    )


class StorageError(EvidenceSyncError):
    """The vault's disk or its file system refused an operation that has nothing to do with free space."""

    slug = "storage"
    default_hint = "Check the vault's disk and its permissions; nothing was published."
    other_hints = _hints(
        changes="Check the vault's disk and its permissions.",
        reads="Check the disk and the permissions of what was to be read.",
    )


class UnkeptReceiptError(StorageError):
    """An acquisition was published, and its receipt could not be kept on this machine."""

    slug = "receipt-not-kept"
    default_hint = "Copy receipt.json, received.json, acquired.json and their signatures from the vault."


class ConnectError(EvidenceSyncError):
    """There is no connection, or no evidencesync at its other end."""

    exit_code = ExitCode.CONNECT
    slug = "cannot-connect"


class NoRemoteError(ConnectError):
    """The connection is there, and no evidencesync at the other end: its shell does not find it, or starts something else."""

    slug = "no-remote"
    default_hint = "Install evidencesync on the server, or say where it is with --remote-command."


class HostKeyError(EvidenceSyncError):
    """The server's host key is not known, or is not the one that was known."""

    exit_code = ExitCode.HOST_KEY
    slug = "host-key-unknown"


class HostKeyChangedError(HostKeyError):
    """The server shows another host key than the one that was recorded for it."""

    slug = "host-key-changed"
    default_hint = "Do not go on before the server's administrator has confirmed the new key by another way."


class AuthenticationError(EvidenceSyncError):
    """The SSH server did not accept any key."""

    exit_code = ExitCode.AUTHENTICATION
    slug = "authentication"
    default_hint = (
        "Check the user name, the key (-i FILE), its passphrase, and that the server's authorized_keys has its public part."
    )


class LinkLostError(EvidenceSyncError):
    """The connection ended, or went silent, before the work was done."""

    exit_code = ExitCode.LINK_LOST
    slug = "link-lost"
    default_hint = "Run the same command again: what has arrived is kept, and only the rest is sent."
    other_hints = _STOPPED_HINTS


class DroppedError(LinkLostError):
    """The server dropped the connection before evidencesync's first message, as a server with too many connections does."""

    slug = "dropped"
    default_hint = "Is that an SSH server, and does it let this machine in? Its log says why it does not."


class SessionGoneError(LinkLostError):
    """The vault's process of a session has ended, or has never begun; what was stored is there for the next session."""

    slug = "session-gone"


class DigestMismatchError(EvidenceSyncError):
    """Bytes do not have the expected digest."""

    exit_code = ExitCode.DIGEST
    slug = "digest-mismatch"


class MissingOrExtraError(EvidenceSyncError):
    """A file that a manifest lists is missing, or a file is there that it does not list."""

    exit_code = ExitCode.MISSING_OR_EXTRA
    slug = "missing-or-extra"


class SignatureError(EvidenceSyncError):
    """A signature is malformed, is over other bytes, or is in another namespace."""

    exit_code = ExitCode.SIGNATURE
    slug = "bad-signature"


class UntrustedSignerError(SignatureError):
    """The signature may be good, but its key is not one that is trusted for this."""

    slug = "untrusted-signer"
    default_hint = "On the vault's machine: evidencesync trust add VAULT KEY.pub --principal NAME"
    other_hints = _hints(reads="Find out by another way whose key it is, before you trust it.")


class NotAllowedError(UntrustedSignerError):
    """The key is trusted, and may not do this in this case now: its roles do not say so, or have ended."""

    slug = "not-allowed"
    default_hint = (
        "On the vault's machine, trust change alters what a key may do, and this shows it: evidencesync trust list VAULT"
    )
    other_hints = _hints()


class NeedsTwoError(NotAllowedError):
    """The vault demands two people for this: one proposes it, and another consents."""

    slug = "needs-two"
    default_hint = (
        "Run the same command again: it becomes a proposal, to which another person consents. An evidencesync that proposes "
        "nothing is too old: update it."
    )


class TrustChangedError(SignatureError):
    """The vault's list of trusted signers, revoked keys or roles is not the one that its last record about them states."""

    slug = "trust-changed"
    default_hint = "It was changed without a record. Put it back from a backup; changes are made with: evidencesync trust"


class MalformedDocumentError(SignatureError):
    """A manifest, receipt, record or recipe is not in the strict form that a signer writes; or a vault.toml is invalid."""

    slug = "malformed-document"


class WrongVaultError(SignatureError):
    """A vault.toml, or an item's folder, is not that of the first record of its chain: another vault's, key's or item's."""

    slug = "wrong-place"


class TimestampError(EvidenceSyncError):
    """A trusted timestamp is missing, over other bytes, or not from a trusted authority."""

    exit_code = ExitCode.TIMESTAMP
    slug = "bad-timestamp"


class ChainError(EvidenceSyncError):
    """A custody chain is broken, forked or older than one that was seen before."""

    exit_code = ExitCode.CHAIN
    slug = "chain-broken"


class RolledBackError(ChainError):
    """A custody chain ends before the last record that this machine has seen of it."""

    slug = "rolled-back"


class ForkedError(ChainError):
    """A custody chain has another record under a number that this machine has seen."""

    slug = "forked"


class PeerError(EvidenceSyncError):
    """The other end broke the protocol, or tried to access something that it may not."""

    exit_code = ExitCode.PEER
    slug = "peer-error"
    default_hint = "The other end is broken, hostile, or of an incompatible version. What was staged is kept as it was."
    other_hints = _hints(changes=_BAD_INPUT_HINT, reads=_BAD_INPUT_HINT)


class ProtocolError(PeerError):
    """A message is malformed, unknown or out of order."""

    slug = "protocol-violation"


class LimitExceededError(PeerError):
    """Input from outside is larger than any valid input."""

    slug = "limit-exceeded"


class PathEscapeError(PeerError):
    """A path would lead out of its folder."""

    slug = "path-escape"


class VersionError(ConnectError):
    """The two ends have no protocol version in common."""

    slug = "version-mismatch"
    default_hint = "Install the same version of evidencesync at both ends."


class InterruptedRunError(EvidenceSyncError):
    """A person or the system asked the run to stop."""

    exit_code = ExitCode.INTERRUPTED
    slug = "interrupted"
    default_hint = "Run the same command again: what has arrived is kept, and only the rest is sent."
    other_hints = _STOPPED_HINTS
