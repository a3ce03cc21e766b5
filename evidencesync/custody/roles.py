"""What each trusted key may do, in which cases and until when: the vault's roles, now and at the time of a document.

The vault's own chain is the history: the record of a change of trust states what the key may do from then on. `roles.json` is its
present state, which the record names by its digest, so that a session need not read the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal, get_args

import msgspec

from evidencesync.custody.documents import CustodyRecord, Document, Fingerprint, VaultId
from evidencesync.custody.patterns import case_fits, case_pattern_problem
from evidencesync.custody.rule_of_two import TWO_PERSON, NeedsTwo, parse_rule
from evidencesync.custody.text import check_texts, decode_readable, encode_readable
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_GRANTED_CASES, MAX_TITLE, MAX_TRUST_FILE

Role = Literal["acquire", "custody", "read", "verify", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
CasePattern = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TITLE)]
Day = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", max_length=10)]
ROLES_FORMAT: Final = "evidencesync-roles/1"
_BETWEEN: Final = ","  # between roles, and between patterns, which never hold one
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Grant(Document, frozen=True):
    """What a key may do. `cases` are patterns, absent: every case. `until` is the last day, by UTC, all of it; absent: no end."""

    may: tuple[Role, ...]
    cases: tuple[CasePattern, ...] | None = None
    until: Day | None = None

    def reason_refused(self, role: Role, case: str | None, at_ns: int) -> str | None:
        """Returns why a role is not held in a case at a time; None when it is. Case None: in every case."""
        if (reason := self.reason_not_held(role, at_ns)) is not None:
            return reason
        if self.cases is not None and (case is None or not self.covers(case)):
            where = f"case {safe_text(case, 80)}" if case is not None else "all cases"
            return f"may {role} in {self.shown_cases()}, and not in {where}"
        return None

    def reason_not_held(self, role: Role, at_ns: int) -> str | None:
        """Returns why a role is not held at a time in any case; None when it is."""
        if role not in self.may:
            return f"may {self.shown_may()}, and not {role}"
        if self.has_ended(at_ns):
            return f"might {role} until {self.until} (UTC, that day included), and not after it"
        return None

    def covers(self, case: str) -> bool:
        """Whether it is about a case, by its exact number."""
        return self.cases is None or any(case_fits(case, pattern) for pattern in self.cases)

    def has_ended(self, at_ns: int) -> bool:
        """Whether its last day is over."""
        return self.until is not None and at_ns >= _end_of(self.until)

    def shown_may(self) -> str:
        """The roles, for people."""
        return "do everything" if self.may == ROLES else ", ".join(self.may)

    def shown_cases(self) -> str:
        """The cases, for people."""
        return "every case" if self.cases is None else f"case {' or '.join(safe_text(one, 80) for one in self.cases)}"

    def details(self) -> dict[str, str]:
        """Returns what the record of a change states."""
        stated = {"may": _BETWEEN.join(self.may)}
        if self.cases is not None:
            stated["cases"] = _BETWEEN.join(self.cases)
        return stated if self.until is None else {**stated, "until": self.until}


EVERYTHING: Final = Grant(ROLES)
"""What each key may do in a vault that was made before there were roles, until somebody says otherwise."""
USUAL: Final = Grant(("acquire", "custody", "read", "verify"))
"""What a new key may do where nothing else is said."""


def make_grant(may: Iterable[str], cases: Iterable[str] | None, until: str | None) -> Grant:
    """Makes a grant in its one form: roles in their order, each once. Raises MalformedDocumentError for what is none."""
    wanted = [*may]
    unknown = [one for one in wanted if one not in ROLES]
    if unknown or not wanted:
        raise MalformedDocumentError(f"not a role: '{safe_text(unknown[0] if unknown else '', 40)}'")
    patterns = None if cases is None else tuple(dict.fromkeys(cases))
    grant = Grant(tuple(one for one in ROLES if one in wanted), patterns, until)
    _check(grant)
    return grant


def grant_of(details: Mapping[str, str]) -> Grant | None:
    """Returns the grant that the details of a record state; None where they state none. Raises MalformedDocumentError."""
    if "may" not in details:
        return None
    cases = details["cases"].split(_BETWEEN) if "cases" in details else None
    grant = make_grant(details["may"].split(_BETWEEN), cases, details.get("until"))
    if {name: details[name] for name in ("may", "cases", "until") if name in details} != grant.details():
        raise MalformedDocumentError("a record states roles in another form than its one")
    return grant


def _check(grant: Grant) -> None:
    if not grant.may or grant.may != tuple(one for one in ROLES if one in grant.may):
        raise MalformedDocumentError("roles are not named in their order, each once")
    if grant.cases is not None and not 0 < len(set(grant.cases)) == len(grant.cases) <= MAX_GRANTED_CASES:
        raise MalformedDocumentError(f"not 1 to {MAX_GRANTED_CASES} different patterns for cases")
    for pattern in grant.cases or ():
        if (problem := case_pattern_problem(pattern)) is not None:
            raise MalformedDocumentError(f"the pattern {safe_text(pattern, 80)} is not taken: {problem}")
    if grant.until is not None:
        _end_of(grant.until)


def _end_of(day: str) -> int:
    """Returns the first moment (ns) after a day, by UTC. Raises MalformedDocumentError for a day that does not exist."""
    try:
        found = date.fromisoformat(day)
        end = datetime(found.year, found.month, found.day, tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise MalformedDocumentError(f"there is no day {safe_text(day, 40)}") from error
    if found.isoformat() != day:
        raise MalformedDocumentError(f"not a day as YYYY-MM-DD: {safe_text(day, 40)}")
    return (end - _EPOCH).days * 86_400 * 1_000_000_000


class Roles(Document, frozen=True):
    """`roles.json`: what each key may do now. `others` is what a key may do that `grants` does not name."""

    format: Literal["evidencesync-roles/1"]
    vault_id: VaultId
    others: Grant
    grants: dict[Fingerprint, Grant]
    two_person: tuple[NeedsTwo, ...] | None = None
    """What needs two people; absent where nobody has ever said that anything does."""

    def of(self, key: str) -> Grant:
        """Returns what the key with this fingerprint may do."""
        return self.grants.get(key, self.others)

    def tells_of(self, key: str) -> bool:
        """Whether somebody has said what a key may do, or all keys of the vault from its making on."""
        return key in self.grants or self.others != EVERYTHING

    def with_grant(self, key: str, grant: Grant) -> Roles:
        """Returns them after a change."""
        return msgspec.structs.replace(self, grants={**self.grants, key: grant})


_DECODER: Final = msgspec.json.Decoder(Roles)


def encode_roles(roles: Roles) -> bytes:
    """Returns the exact bytes to store. Raises MalformedDocumentError for roles that a reader would refuse."""
    data = encode_readable(roles)
    decode_roles(data)
    return data


def decode_roles(data: bytes) -> Roles:
    """Decodes roles from their exact bytes. Raises MalformedDocumentError."""
    roles = decode_readable(_DECODER, data, MAX_TRUST_FILE, "the list of roles")
    check_texts(roles, "the list of roles")
    for grant in (roles.others, *roles.grants.values()):
        _check(grant)
    parse_rule(",".join(roles.two_person or ()))
    return roles


class DatedGrant(msgspec.Struct, frozen=True):
    """A grant, the number of the record that states it, and that record's time (ns)."""

    record: int
    at_ns: int
    grant: Grant


class DatedRule(msgspec.Struct, frozen=True):
    """What needs two people, the number of the record that states it, and that record's time (ns)."""

    record: int
    at_ns: int
    rule: tuple[NeedsTwo, ...]


class RoleHistory(msgspec.Struct):
    """What each key might do at each time, from the records of a vault's own chain."""

    others: Grant = EVERYTHING
    is_stated: bool = False
    """Whether any record states roles."""
    is_known: bool = False
    """Whether all records about trust were read and understood: else nobody is judged by what the others say."""
    changes: dict[str, list[DatedGrant]] = msgspec.field(default_factory=dict)
    two_person: list[DatedRule] = msgspec.field(default_factory=list)
    """What needed two people, in the order of the records that say it."""

    def add(self, record: CustodyRecord, at_ns: int) -> None:
        """Adds the next record about trust that is signed by the vault. Raises MalformedDocumentError for unknown roles."""
        if TWO_PERSON in record.details:
            self.two_person.append(DatedRule(record.sequence, at_ns, parse_rule(record.details[TWO_PERSON])))
        if (grant := grant_of(record.details)) is None:
            return
        self.is_stated = True
        if record.type == "made":
            self.others = grant
        else:
            self.changes.setdefault(record.details.get("key", ""), []).append(DatedGrant(record.sequence, at_ns, grant))

    @property
    def is_limited(self) -> bool:
        """Whether the vault has said from its making on what a key may do of which nothing else is said."""
        return self.others != EVERYTHING

    def roles(self, vault_id: str, record: int) -> Roles:
        """Returns what the records up to this one say together, as the `roles.json` that it states must."""
        latest = {key: one.grant for key, changes in self.changes.items() for one in changes if one.record <= record}
        rule = next((one.rule for one in reversed(self.two_person) if one.record <= record), None)
        return Roles(ROLES_FORMAT, vault_id, self.others, latest, rule)

    def needed_two(self, what: NeedsTwo, at_ns: int, stated_by: int | None) -> bool | None:
        """Whether something needed two people at a time; None where order and times contradict each other.

        `stated_by`: see `grant_at`. The order counts, where it is known: a rule that was lifted before is lifted, whatever clocks
        say. One that was made before, and is dated later, may have been made after all, just before that record.
        """
        known = [one for one in self.two_person if stated_by is None or one.record < stated_by]
        if stated_by is not None and what not in (known[-1].rule if known else ()):
            return False
        needed = what in next((one.rule for one in reversed(known) if one.at_ns <= at_ns), ())
        return True if needed else None if stated_by is not None else False

    def grant_at(self, key: str, at_ns: int, stated_by: int | None) -> Grant:
        """Returns what a key might do at a time. `stated_by`: the record of the chain by which the document was there.

        What was changed by a later record was changed later, whatever clocks say.
        """
        known = (one for one in self.changes.get(key, ()) if stated_by is None or one.record < stated_by)
        return next((one.grant for one in reversed([*known]) if one.at_ns <= at_ns), self.others)

    def changed_in_between(self, key: str, at_ns: int, stated_by: int | None) -> list[DatedGrant]:
        """Returns the changes that are dated after `at_ns`, though a later record of the chain first states the document."""
        if stated_by is None:
            return []
        return [one for one in self.changes.get(key, ()) if one.record < stated_by and one.at_ns > at_ns]

    def has_told(self, key: str, stated_by: int | None) -> bool:
        """Whether a record before `stated_by` says what a key may do, or the vault has said it of all keys from its making on."""
        return self.is_limited or any(stated_by is None or one.record < stated_by for one in self.changes.get(key, ()))

    def was_ever_granted(self, key: str, role: Role, case: str | None) -> bool:
        """Whether there was a time at which a key held a role in a case (None: in every case)."""
        grants = [self.others, *(one.grant for one in self.changes.get(key, ()))]
        return any(role in one.may and (one.cases is None if case is None else one.covers(case)) for one in grants)
