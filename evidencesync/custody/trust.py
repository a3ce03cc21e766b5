"""Parses OpenSSH's allowed_signers and revoked keys strictly, and decides which key may sign what, and when.

Refused here though ssh-keygen accepts them: certificate authorities, times without a zone (they would mean something else on
each machine), revocation lists in the binary KRL format. A line that cannot be parsed invalidates the whole file: nothing is
trusted by guesswork.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.patterns import fits
from evidencesync.custody.publickey import InvalidPublicKeyError, PublicKey, decode_base64
from evidencesync.custody.roles import EVERYTHING, Grant, Role, Roles
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.wire import WireError, WireReader
from evidencesync.errors import NotAllowedError, TrustFileError, UntrustedSignerError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.meant import did_you_mean, nearest
from evidencesync.evidence.utc_time import shown_time
from evidencesync.limits import MAX_TRUST_FILE, MAX_TRUST_LINE, MAX_TRUST_LINES, MAX_TRUST_PATTERN

_MOST_NAMED: Final = 3  # people whom a hint names
SEE_SIGNERS: Final = "Who is trusted is listed by: evidencesync trust list VAULT"


def matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern matches the whole name, and no pattern negated with `!` does. Bytes are compared, as in OpenSSH."""
    fitting = [pattern for pattern in patterns if fits(_bytes(name), _bytes(pattern.removeprefix("!")))]
    return bool(fitting) and not any(pattern.startswith("!") for pattern in fitting)


def _bytes(text: str) -> str:
    """Returns a text with a character for each byte."""
    return text.encode("utf-8").decode("latin-1")


_NANOSECONDS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Principals, perhaps quoted; options, whose values are quoted and hold neither quotes nor backslashes; the key.
_LINE: Final = re.compile(
    r'(?:"(?P<quoted>[^"\\]+)"|(?P<plain>[^ \t"#][^ \t"]*))[ \t]+'
    r"(?:(?P<options>(?:[A-Za-z-]+(?:=\"[^\"\\]*\")?)(?:,[A-Za-z-]+(?:=\"[^\"\\]*\")?)*)[ \t]+)?"
    r"(?P<algorithm>[a-z0-9@.-]+)[ \t]+(?P<key>[A-Za-z0-9+/]+=*)(?:[ \t].*)?"
)
_OPTION: Final = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?')
_TIME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2})([0-9]{2})?)?Z")
_REVOCABLE: Final = frozenset({"ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa", "ssh-dss"}) | {
    f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)
}
_PATTERN_CHARACTERS: Final = frozenset("*?!")
_BLANK_WITH_RETURN: Final = re.compile(rb"^[ \t]*\r[ \t\r]*$", re.MULTILINE)


class TrustedSigner(msgspec.Struct, frozen=True):
    """One line: the key of these principals, for these namespaces (None: all), between these times (seconds, inclusive)."""

    principals: tuple[str, ...]
    key: PublicKey
    namespaces: tuple[str, ...] | None = None
    valid_after: int | None = None
    valid_before: int | None = None

    @property
    def principal(self) -> str | None:
        """The first principal that is a name and not a pattern; None where there is none."""
        return next((name for name in self.principals if _PATTERN_CHARACTERS.isdisjoint(name)), None)

    def reason_not_covered(self, namespace: str, at_ns: int) -> str | None:
        """Returns why this line does not cover a signature in `namespace` at a time; None when it does.

        The text does not say what happened at that time (signing, or checking): only the caller knows.
        """
        at = at_ns // _NANOSECONDS
        if self.namespaces is not None and not matches_any(namespace, self.namespaces):
            return f"is not trusted for the namespace {namespace}"
        if self.valid_after is not None and at < self.valid_after:
            return f"is trusted from {_shown_time(self.valid_after)} on, not at {_shown_time(at)}"
        if self.valid_before is not None and at > self.valid_before:
            return f"was trusted until {_shown_time(self.valid_before)}, not at {_shown_time(at)}"
        return None


class TrustedSigners(msgspec.Struct, frozen=True):
    """All lines of an allowed_signers file."""

    signers: tuple[TrustedSigner, ...]

    @classmethod
    def parse(cls, data: bytes) -> TrustedSigners:
        """Parses a whole file. Raises TrustFileError, naming the line."""
        return cls(tuple(_parse_signer(line, f"trusted signers, line {number}") for number, line in _lines(data)))

    def principal_for(self, key: PublicKey, namespace: str, at_ns: int) -> str:
        """Returns the name under which a key is trusted for a namespace at a time. Raises UntrustedSignerError.

        A line whose principals are all patterns gives no name, and is ignored.
        """
        named = [signer for signer in self.signers if signer.principal is not None]
        found = _covering(named, key, namespace, at_ns, f"the key {key.fingerprint}")
        return found.principal or ""

    def has_ended(self, key: PublicKey, namespace: str, at_ns: int, principal: str | None = None) -> bool:
        """Whether a key was trusted for a namespace until some time before `at_ns`, and is not at that time.

        With a `principal`: under that name.
        """
        return any(
            signer.key == key
            and (signer.principal is not None if principal is None else matches_any(principal, signer.principals))
            and signer.valid_before is not None
            and signer.valid_before < at_ns // _NANOSECONDS
            and signer.reason_not_covered(namespace, signer.valid_before * _NANOSECONDS) is None
            for signer in self.signers
        )

    def end_of(self, key: PublicKey, retired_ns: int) -> int:
        """When the trust in a key ended that was retired at `retired_ns`: then, or later where it had begun by a fast clock.

        No interval of a list ends before it begins, so a key that was added by such a clock ends just after that.
        """
        at = retired_ns // _NANOSECONDS
        lines = [one for one in self.signers if one.key == key and (one.valid_before is None or one.valid_before >= at)]
        if any(one.valid_after is None or one.valid_after <= at for one in lines):
            return retired_ns
        return min((one.valid_before * _NANOSECONDS for one in lines if one.valid_before is not None), default=retired_ns)

    def check(self, principal: str, key: PublicKey, namespace: str, at_ns: int) -> None:
        """Checks that the key is trusted under this principal, for a namespace at a time. Raises UntrustedSignerError."""
        who = f"the key {key.fingerprint} of {safe_text(principal, 80)}"
        if not principal or not is_clean(principal):
            raise UntrustedSignerError(f"not a principal's name: {safe_text(principal, 80)}")
        lines = [signer for signer in self.signers if matches_any(principal, signer.principals)]
        if not lines and any(signer.key == key for signer in self.signers):
            raise UntrustedSignerError(f"{who} is trusted, but under another name")
        _covering(lines, key, namespace, at_ns, who)

    def is_retired(self, key: PublicKey) -> bool:
        """Whether the trust in a key has an end, in the past or in the future, and did not begin again."""
        ends = [signer.valid_before for signer in self.signers if signer.key == key]
        return bool(ends) and None not in ends

    def check_not_retired(self, key: PublicKey) -> None:
        """Checks that a key may sign something new, whatever a clock shows. Raises UntrustedSignerError.

        An end that lies ahead by this clock is no permission until then: this clock is slow, or one was fast that set the end.
        """
        if self.is_retired(key):
            end = max(signer.valid_before or 0 for signer in self.signers if signer.key == key)
            raise UntrustedSignerError(
                f"the key {key.fingerprint} was retired: it was trusted until {_shown_time(end)}, and signs nothing new",
                hint="Ask who keeps the vault. If the clock of the vault's machine is slow, set it (see: date -u).",
            )

    def is_ever_trusted(self, principal: str | None, key: PublicKey, namespace: str) -> bool:
        """Whether there is a time at which a key is trusted under this principal (None: under any)."""
        times = [one.valid_after or one.valid_before or 0 for one in self.signers if one.key == key]
        return any(self.reason_untrusted(principal, key, namespace, at * _NANOSECONDS) is None for at in times)

    def reason_untrusted(self, principal: str | None, key: PublicKey, namespace: str, at_ns: int) -> str | None:
        """Returns why a key is not trusted under this principal (None: under any); None if it is."""
        try:
            if principal is None:
                self.principal_for(key, namespace, at_ns)
            else:
                self.check(principal, key, namespace, at_ns)
        except UntrustedSignerError as error:
            return error.message
        return None


class RevokedKeys(msgspec.Struct, frozen=True):
    """Revoked keys: nothing that they signed is accepted, at any time, whatever other lists state."""

    blobs: frozenset[bytes]

    @classmethod
    def parse(cls, data: bytes) -> RevokedKeys:
        """Parses a list of public key lines; it may be empty. Raises TrustFileError, naming the line."""
        if data.startswith(b"SSHKRL\n"):
            raise TrustFileError(
                "the list of revoked keys is a binary KRL",
                hint="List the revoked public keys one a line instead; ssh-keygen -r takes that, too.",
            )
        if _BLANK_WITH_RETURN.search(data) is not None:
            raise TrustFileError(
                "the list of revoked keys has an empty line that ends in a carriage return",
                hint="ssh-keygen -r refuses every key because of such a line. Remove the empty lines, or the carriage returns.",
            )
        return cls(frozenset(_parse_revoked(line, f"revoked keys, line {number}") for number, line in _lines(data)))

    def refuses(self, key: PublicKey) -> bool:
        """Whether a key was revoked."""
        return key.blob in self.blobs


def who_is_meant(principal: str, signers: Iterable[TrustedSigner], option: str | None = None) -> str:
    """The hint for a principal that nobody of these has: who may be meant, typed with an `option`, and where all are listed."""
    names = (name for one in signers for name in one.principals)
    return did_you_mean(nearest(principal, names), option) + SEE_SIGNERS


class TrustLists(msgspec.Struct, frozen=True):
    """Both lists together: decides whether a signature is accepted, and who may sign something new.

    `roles`: what each key may do in a vault; None in one that states no roles, where each may do everything.
    """

    signers: TrustedSigners
    revoked: RevokedKeys
    roles: Roles | None = None

    def grant_of(self, key: PublicKey) -> Grant:
        """Returns what a key may do, if it is trusted."""
        return EVERYTHING if self.roles is None else self.roles.of(key.fingerprint)

    def check_role(self, key: PublicKey, roles: Sequence[Role], case: str | None, at_ns: int) -> None:
        """Checks that a trusted key has one of some roles in a case now (case None: in every case). Raises NotAllowedError."""
        grant = self.grant_of(key)
        self._require_one(key, [grant.reason_refused(role, case, at_ns) for role in roles], at_ns)

    def check_somewhere(self, key: PublicKey, roles: Sequence[Role], at_ns: int) -> None:
        """Checks that a trusted key has one of some roles in any case now. Raises NotAllowedError."""
        grant = self.grant_of(key)
        self._require_one(key, [grant.reason_not_held(role, at_ns) for role in roles], at_ns)

    def check_admin(self, key: PublicKey, at_ns: int) -> None:
        """Checks that a trusted key may change from afar whom the vault trusts. Raises NotAllowedError.

        That a vault is older than roles says of nobody that they may: somebody must have said so.
        """
        if self.roles is None or not self.roles.tells_of(key.fingerprint):
            self._require_one(
                key, ["may not change trust from afar: nobody has said so, and the vault is older than roles"], at_ns
            )
        self.check_role(key, ("admin",), None, at_ns)

    def check_recorder(self, key: PublicKey, case: str | None, at_ns: int) -> None:
        """Checks that a key may sign custody records of a case now (case None: of any case).

        Raises UntrustedSignerError, NotAllowedError.
        """
        self.principal_for(key, CUSTODY_NAMESPACE, at_ns)
        if case is None:
            self.check_somewhere(key, ("custody",), at_ns)
        else:
            self.check_role(key, ("custody",), case, at_ns)

    def _require_one(self, key: PublicKey, reasons: Sequence[str | None], at_ns: int) -> None:
        if None not in reasons:
            names = [one.principal or "" for one in self.signers.signers if one.key == key]
            who = safe_text(next(filter(None, names), key.fingerprint), 80)
            change = f"evidencesync trust change VAULT {key.fingerprint} --may ROLES"
            hint = f"Ask {self._whom_to_ask(at_ns)}, who can change that on the vault's machine: {change}"
            raise NotAllowedError(f"{who} {reasons[0]}", hint=hint)

    def _whom_to_ask(self, at_ns: int) -> str:
        """Names who changes trust: those who are known to administer, and else whoever keeps the vault."""
        grants = {} if self.roles is None else self.roles.grants
        keys = {key for key, grant in grants.items() if "admin" in grant.may and not grant.has_ended(at_ns)}
        trusted = [one for one in self.signers.signers if one.valid_before is None and not self.revoked.refuses(one.key)]
        names = [safe_text(one.principal, 80) for one in trusted if one.principal and one.key.fingerprint in keys]
        return " or ".join(dict.fromkeys(names[:_MOST_NAMED])) or "who keeps the vault"

    def principal_for(self, key: PublicKey, namespace: str, at_ns: int) -> str:
        """Returns the principal of a key that is to sign something new, for a namespace now. Raises UntrustedSignerError.

        Also for a key that was revoked, or retired.
        """
        if self.revoked.refuses(key):
            raise UntrustedSignerError(f"the key {key.fingerprint} was revoked", hint="A revoked key cannot be used again.")
        principal = self.signers.principal_for(key, namespace, at_ns)
        self.signers.check_not_retired(key)
        return principal

    def knows(self, principal: str, namespace: str, at_ns: int) -> bool:
        """Whether a principal has a key that may sign in a namespace from now on, and was neither revoked nor retired."""
        return any(
            matches_any(principal, signer.principals)
            and not self.revoked.refuses(signer.key)
            and signer.valid_before is None
            and signer.reason_not_covered(namespace, at_ns) is None
            for signer in self.signers.signers
        )

    def check_key(self, principal: str, key: PublicKey, namespace: str, at_ns: int) -> None:
        """Checks that a key is not revoked, and belongs to this principal, for a namespace at a time."""
        if self.revoked.refuses(key):
            raise UntrustedSignerError(f"the key {key.fingerprint} was revoked", hint="A revoked key cannot be used again.")
        self.signers.check(principal, key, namespace, at_ns)

    def check_new(self, principal: str, key: PublicKey, namespace: str, now_ns: int) -> None:
        """Checks that a key may sign something new as this principal: as `check_key`, and it was not retired."""
        self.check_key(principal, key, namespace, now_ns)
        self.signers.check_not_retired(key)

    def check_signature(
        self, armored: bytes, namespace: str, sha512: bytes, principal: str, at_ns: int, *, low_s: bool = False
    ) -> PublicKey:
        """Checks a signature and its signer, and returns the key. `low_s`: the signature must be in low-s form.

        1. The signature is well-formed and verifies.  2. Its key was not revoked.  3. The key belongs to this
        principal.  4. For this namespace.  5. At this time.  Raises SignatureError, or UntrustedSignerError from 2 on.
        """
        key = verify_signature(armored, namespace, sha512, low_s=low_s)  # 1
        self.check_key(principal, key, namespace, at_ns)  # 2 to 5
        return key


def signer_line(
    principal: str,
    key: PublicKey,
    namespaces: tuple[str, ...],
    valid_after_ns: int | None = None,
    valid_before_ns: int | None = None,
) -> str:
    """Formats one allowed_signers line, without a newline, for OpenSSH 9.0 and later. Times are cut to seconds.

    Raises TrustFileError for a principal that the format cannot express.
    """
    options = [f'namespaces="{",".join(namespaces)}"']
    if valid_after_ns is not None:
        options.append(f'valid-after="{_format_time(valid_after_ns // _NANOSECONDS)}"')
    if valid_before_ns is not None:
        options.append(f'valid-before="{_format_time(valid_before_ns // _NANOSECONDS)}"')
    shown = f'"{principal}"' if " " in principal else principal
    line = f"{shown} {','.join(options)} {key.line()}"
    read = _parse_signer(line, "a trusted signer") if is_clean(line) and not principal.startswith("#") else None
    if read is None or read.principals != (principal,) or read.principal is None or read.namespaces != namespaces:
        raise TrustFileError(f"not usable as the name of a signer: {safe_text(principal, 80)}")
    return line


def _covering(lines: list[TrustedSigner], key: PublicKey, namespace: str, at_ns: int, who: str) -> TrustedSigner:
    reasons: list[str] = []
    for signer in lines:
        if signer.key == key:
            reason = signer.reason_not_covered(namespace, at_ns)
            if reason is None:
                return signer
            reasons.append(reason)
    if not reasons:
        raise UntrustedSignerError(f"{who} is not among the trusted keys")
    raise UntrustedSignerError(f"{who} {'; it '.join(reasons)}")


# --- Files -------------------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> list[tuple[int, str]]:
    """Returns the stripped lines with their numbers; empty lines and comments are left out."""
    if len(data) > MAX_TRUST_FILE:
        raise TrustFileError(f"a file of keys is {len(data)} bytes long; the limit is {MAX_TRUST_FILE}")
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TrustFileError("a file of keys is not UTF-8") from error
    if len(lines) > MAX_TRUST_LINES + 1:
        raise TrustFileError(f"a file of keys has more than {MAX_TRUST_LINES} lines")
    kept: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip(" \t\r")
        if len(line) > MAX_TRUST_LINE or not is_clean(text.replace("\t", " ")):
            raise TrustFileError(f"line {number} of a file of keys is too long or holds control characters")
        if text and not text.startswith("#"):
            kept.append((number, text))
    return kept


def _parse_signer(line: str, what: str) -> TrustedSigner:
    match = _LINE.fullmatch(line)
    if match is None:
        hint = "Each line begins with the signer's name, and the key as in its .pub file follows: ana@lab ssh-ed25519 AAAA..."
        raise TrustFileError(f"{what}: not PRINCIPALS [OPTIONS] KEY: {safe_text(line, 80)}", hint=hint)
    options = _parse_options(match["options"] or "", what)
    valid_after, valid_before = (_parse_time(options.get(name), what) for name in ("valid-after", "valid-before"))
    if valid_after is not None and valid_before is not None and valid_before <= valid_after:
        raise TrustFileError(f"{what}: valid-before is not after valid-after")
    namespaces = options.get("namespaces")
    try:
        key = PublicKey(match["algorithm"], decode_base64(match["key"]))
    except InvalidPublicKeyError as error:
        raise TrustFileError(f"{what}: {error.message}", hint=error.hint) from error
    return TrustedSigner(
        principals=_parse_patterns(match["quoted"] or match["plain"], what),
        key=key,
        namespaces=None if namespaces is None else _parse_patterns(namespaces, what),
        valid_after=valid_after,
        valid_before=valid_before,
    )


def _parse_options(text: str, what: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in _OPTION.findall(text):
        lowered = name.lower()
        if lowered == "cert-authority":
            raise TrustFileError(f"{what}: certificate authorities are not supported; list the signers' own keys")
        if lowered not in ("namespaces", "valid-after", "valid-before") or lowered in options:
            raise TrustFileError(f"{what}: the option {safe_text(name, 40)} is unknown or given twice")
        options[lowered] = value
    return options


def _parse_patterns(text: str, what: str) -> tuple[str, ...]:
    patterns = tuple(text.split(","))
    if any(not pattern.removeprefix("!") or len(pattern.encode("utf-8")) > MAX_TRUST_PATTERN for pattern in patterns):
        raise TrustFileError(f"{what}: an empty or overlong name in {safe_text(text, 80)}")
    return patterns


def _parse_time(text: str | None, what: str) -> int | None:
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise TrustFileError(f"{what}: a time must be YYYYMMDDZ or YYYYMMDDHHMM[SS]Z, in UTC: {safe_text(text, 40)}")
    try:
        year, month, day, hour, minute, second = map(int, match.groups(default="0"))
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise TrustFileError(f"{what}: there is no such time: {safe_text(text, 40)}") from error
    seconds = int((moment - _EPOCH).total_seconds())
    if seconds <= 0:
        raise TrustFileError(f"{what}: a time before 1970: {safe_text(text, 40)}")
    return seconds


def _shown_time(seconds: int) -> str:
    """Formats a time as in findings, not as in these files."""
    return shown_time(seconds * 1_000_000_000)


def _format_time(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%SZ")


def _parse_revoked(line: str, what: str) -> bytes:
    """Returns the blob of one revoked key. Its size is not checked: a key too short to sign may be listed as well."""
    words = line.split()
    try:
        blob = decode_base64(words[1] if len(words) > 1 else "")
        reader = WireReader(blob)
        algorithm = reader.text()
        if algorithm != words[0] or algorithm not in _REVOCABLE:
            raise TrustFileError(f"{what}: not a public key that can be revoked: {safe_text(line, 60)}")
        if algorithm == "ssh-rsa":  # the only type where one key has several encodings
            reader.mpint()
            reader.mpint()
            reader.end()
    except (InvalidPublicKeyError, WireError) as error:
        raise TrustFileError(f"{what}: {error.message}", hint=error.hint) from error
    return blob
