"""The numbered checks, and what each kind of finding means for the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from evidencesync.exit_codes import ExitCode

Severity = Literal["info", "warning", "error"]


class Check(IntEnum):
    """The checks, by the numbers that findings and the documentation use. `DESCRIPTIONS` has a sentence for each."""

    STRUCTURE = 1
    VAULT = 2
    CUSTODY = 3
    MANIFEST = 4
    RECEIPT = 5
    SUMS = 6
    CONTENTS = 7
    PRESENCE = 8
    MODES = 9
    PUBLISHING = 10
    INDEX = 11
    TIME = 12


DESCRIPTIONS: Final[Mapping[Check, str]] = MappingProxyType(
    {
        Check.STRUCTURE: "everything that belongs there is there, as a file or a folder, and nothing else is under `cases/`",
        Check.VAULT: "the vault's own chain, its key, and who is trusted",
        Check.CUSTODY: "the item's chain: links, order, signatures, and that it is about what is published",
        Check.MANIFEST: "strict form, signature, signer, that it belongs here, and the manifest before it",
        Check.RECEIPT: "signature, and that it agrees with manifest, documents and chain",
        Check.SUMS: "SHA256SUMS and BLAKE3SUMS list exactly what the manifest lists",
        Check.CONTENTS: "every file's size and digests, and where they differ",
        Check.PRESENCE: "files that are missing, and things under `data/` that are not listed",
        Check.MODES: "stored files that are writable, executable or set-id; a private key that others can read",
        Check.PUBLISHING: "what an interrupted transfer or publish left",
        Check.INDEX: "the cache, against what is published",
        Check.TIME: "trusted timestamps, and times that contradict each other",
    }
)


class Meaning(NamedTuple):
    """The severity of a kind of finding, its exit code (COMPLETE: none), and its meaning, for people."""

    severity: Severity
    code: ExitCode
    text: str


_DIGEST, _PRESENCE, _SIGNATURE = ExitCode.DIGEST, ExitCode.MISSING_OR_EXTRA, ExitCode.SIGNATURE
_CHAIN, _GAPS, _NONE = ExitCode.CHAIN, ExitCode.GAPS, ExitCode.COMPLETE
_TIMESTAMP = ExitCode.TIMESTAMP

# GAPS, NOT_THERE and USAGE make a verdict incomplete, every other code makes it fail.
MEANINGS: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        # What could not be checked. Never a pass.
        "vault-not-found": Meaning("error", ExitCode.NOT_THERE, "there is no vault at this path"),
        "not-there": Meaning("error", ExitCode.NOT_THERE, "the vault does not have what was named"),
        "nothing-to-verify": Meaning("warning", _GAPS, "no acquisition was there to be checked"),
        "unreadable": Meaning("error", _GAPS, "the disk or its permissions did not let it be read"),
        "memory-damaged": Meaning("error", _GAPS, "what this machine remembers of the vault's chains cannot be read"),
        "not-compared": Meaning("error", _GAPS, "what it would be compared with is damaged or missing"),
        "later-format": Meaning("error", ExitCode.USAGE, "the vault has a format that this version does not know"),
        # Structure and presence.
        "missing-document": Meaning("error", _PRESENCE, "a document that every vault or acquisition has is missing"),
        "missing-acquisition": Meaning("error", _PRESENCE, "the chain records an acquisition that is not there"),
        "missing-file": Meaning("error", _PRESENCE, "the manifest lists a file or folder that is not there"),
        "extra-entry": Meaning("error", _PRESENCE, "something lies there that no manifest lists and no format knows"),
        "wrong-type": Meaning("error", _PRESENCE, "something else than a regular file or a folder lies there"),
        "foreign-entry": Meaning("warning", _NONE, "something that is not evidencesync's lies beside the vault's files"),
        "empty-case": Meaning("warning", _NONE, "a case without any item: a first transfer that never began"),
        "empty-item": Meaning("warning", _NONE, "an item without any acquisition: a first transfer that never ended"),
        "no-incoming": Meaning("warning", _NONE, "a copy without its empty folder for transfers: the next push makes it again"),
        # Documents and signatures.
        "malformed-document": Meaning("error", _SIGNATURE, "a document is not in the one form that a signer writes"),
        "bad-signature": Meaning("error", _SIGNATURE, "a signature is malformed, or over other bytes"),
        "loose-signature": Meaning("info", _NONE, "an ECDSA signature in a form that an older evidencesync wrote as well"),
        "wrong-signer": Meaning("error", _SIGNATURE, "a document is signed by a key that may not sign it"),
        "untrusted-signer": Meaning("error", _SIGNATURE, "a key is not trusted for this, or was not at that time"),
        "not-allowed": Meaning("error", _SIGNATURE, "a key is trusted, but had not the role for this in this case at that time"),
        "roles-not-stated": Meaning("info", _NONE, "keys may do everything: nobody has said what they may do in which cases"),
        "revoked-signer": Meaning("error", _SIGNATURE, "a key was revoked: nothing that it ever signed counts"),
        "revoked-by-vault": Meaning("warning", _NONE, "the vault revoked a key that the signers from outside still trust"),
        "retired-signer": Meaning("info", _NONE, "a key was retired since: the signature is older, and counts"),
        "trust-file": Meaning("error", _SIGNATURE, "a list of trusted signers, revoked keys or roles cannot be used"),
        "trust-changed": Meaning("error", _SIGNATURE, "who is trusted, or what they may do, was changed without a record"),
        "rule-differs": Meaning(
            "warning", _NONE, "vault.toml says something else of what needs two people than the vault's own chain, which counts"
        ),
        "trust-not-used": Meaning("warning", _NONE, "the vault's lists of signers are damaged, but were not relied on"),
        "wrong-recipient": Meaning("error", _SIGNATURE, "a hand-over to nobody else, or accepted by another than it names"),
        "receipt-mismatch": Meaning("error", _SIGNATURE, "a receipt is not about this acquisition"),
        "wrong-place": Meaning("error", _SIGNATURE, "a document belongs to another vault, case, item or acquisition"),
        # Chains.
        "chain-broken": Meaning("error", _CHAIN, "a custody record does not follow the one before it"),
        "missing-record": Meaning("error", _CHAIN, "a custody record is missing"),
        "record-differs": Meaning("error", _CHAIN, "an acquisition's record is not the one in the chain"),
        "not-in-chain": Meaning("error", _CHAIN, "an acquisition that the custody chain does not record"),
        "no-hand-over": Meaning("error", _CHAIN, "an item was accepted, and no hand-over of it was open"),
        "holder-passed-over": Meaning(
            "warning", _NONE, "somebody handed over what another person held, and does not say in whose place"
        ),
        "wrong-reference": Meaning(
            "error", _CHAIN, "a record names what is not there before it: a record, or a manifest or receipt"
        ),
        "rolled-back": Meaning("error", _CHAIN, "a chain, or an item, lacks records that it is known to have had"),
        "older-copy": Meaning("error", _CHAIN, "a chain is an older copy of what this machine has seen: only the end is missing"),
        "forked": Meaning("error", _CHAIN, "a chain has another record under a number that was seen or stated"),
        # Bytes.
        "document-damaged": Meaning("error", _DIGEST, "a document is not the one that the receipt names"),
        "sums-differ": Meaning("error", _DIGEST, "a sums file does not list what the manifest lists"),
        "file-damaged": Meaning("error", _DIGEST, "bytes of a file are not those that were acquired"),
        "file-truncated": Meaning("error", _DIGEST, "a file is shorter than what was acquired"),
        "file-extended": Meaning("error", _DIGEST, "a file is longer than what was acquired"),
        # Time.
        "bad-timestamp": Meaning(
            "error", _TIMESTAMP, "a timestamp is malformed, or over other bytes than the manifest's signature"
        ),
        "untrusted-authority": Meaning("error", _TIMESTAMP, "a timestamp's authority does not lead to a root that was given"),
        "missing-timestamp": Meaning("error", _TIMESTAMP, "the chain records a timestamp that is not there"),
        "timestamp-not-recorded": Meaning(
            "error", _TIMESTAMP, "a timestamp that no record names: `timestamp attach` was cut short"
        ),
        "timestamp-differs": Meaning("error", _TIMESTAMP, "the chain records another timestamp than the one that is there"),
        "no-timestamp": Meaning("error", _TIMESTAMP, "a timestamp was asked for, and there is no good one"),
        "timestamp": Meaning("info", _NONE, "an authority says when a manifest's signature existed at the latest"),
        "authority-not-checked": Meaning(
            "info", _NONE, "who made a timestamp was not checked: that needs an authority's certificate"
        ),
        "times-contradict": Meaning("warning", _NONE, "clocks contradict each other by more than they should"),
        # Everything else.
        "not-remembered": Meaning("warning", _NONE, "this machine cannot remember how far it has seen the vault's chains"),
        "unsafe-mode": Meaning("warning", _NONE, "a stored file or folder can be changed or run by its mode"),
        "unfinished-publish": Meaning("warning", _NONE, "an interrupted publish, which the next writer completes"),
        "unfinished-transfer": Meaning("info", _NONE, "what an unfinished transfer left in staging; not evidence"),
        "lookup-beyond-case": Meaning("info", _NONE, "vault.toml asks for lookups in other cases: they end at the case"),
        "unfinished-change": Meaning("info", _NONE, "an interrupted change of the vault, which the next one tidies up"),
        "source-gaps": Meaning("info", _NONE, "the source could not be read whole; the manifest says where"),
        "source-changed": Meaning("info", _NONE, "something changed while it was read; the manifest says what"),
        "source-filtered": Meaning("info", _NONE, "a filter left something out of the source; the manifest says what"),
        "read-earlier": Meaning(
            "info", _NONE, "files that were not read again: their content is as an earlier acquisition read it"
        ),
        "sha256-not-checked": Meaning("info", _NONE, "SHA-256 is the source's statement; the vault has not checked it"),
        "digested-on-arrival": Meaning("info", _NONE, "no digests were taken at the source: they are of what arrived from it"),
        "gone-on": Meaning("info", _NONE, "a chain has gone on between the fetching of its documents and the vault's verdict"),
        "index-differs": Meaning("warning", _NONE, "the cache is not about what is published; `reindex` makes it anew"),
        "index-not-read": Meaning("warning", _NONE, "the disk or its permissions did not let the cache be read"),
        "not-listed": Meaning("info", _NONE, "more findings of one kind than are listed"),
    }
)
