"""`verify`: checks everything in a vault, from the bytes up. `export` and `report` verify with the same function.

A vault on another machine verifies itself: `verify_afar.py`.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.help_text import SIGNING
from evidencesync.cli.log_choice import LogOption, log_places, logged
from evidencesync.cli.meant_places import meant_vault, near_vault
from evidencesync.cli.options import (
    TSA_VARIABLE,
    OwnSigners,
    PartChoice,
    RemoteChoice,
    SignChoice,
    TsaRoots,
    VaultAddress,
    local_vault,
    vault_address,
)
from evidencesync.cli.own_state import RunFolders
from evidencesync.cli.trust_files import load_trusted
from evidencesync.errors import CommandKind, UsageError, VaultNotFoundError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.cli.reading import ReadableVault
    from evidencesync.cli.verify_afar import OwnCheck
    from evidencesync.cli.verify_record import Append, Verifier
    from evidencesync.custody.timestamp import Roots
    from evidencesync.custody.trust import TrustLists
    from evidencesync.verify.findings import Finding, Verdict

_MANY: Final = {"error": "errors", "warning": "warnings", "info": "info"}
_ONLY_CHECKED: Final = "Without --record it is only checked."
_SHOWN_OF_A_KIND: Final = 10  # warnings: one command may have changed the modes of a million files
_WORDS: Final = {"pass": "PASS", "fail": "FAIL", "incomplete": "INCOMPLETE"}


@dataclasses.dataclass(frozen=True, slots=True)
class CheckChoice:
    """Which digests are checked, and which timestamps are required."""

    all_digests: Annotated[bool, typer.Option("--all-digests", help="Check SHA-256 too, not only BLAKE3.")] = False
    tsa_root: TsaRoots = None
    require_timestamp: Annotated[
        bool, typer.Option("--require-timestamp", help="Fail where a manifest has no timestamp by one of those authorities.")
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class DistrustChoice:
    """What is believed in place of the vault's word."""

    trusted: OwnSigners = None
    expect_head: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256",
            help="Digest of a record that a chain must contain: a head printed by push or list.",
        ),
    ] = None
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Of a vault on another machine: fetch its documents, and check them here."),
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class ResultChoice:
    """What is printed and kept besides the verdict."""

    heads: Annotated[bool, typer.Option("--heads", help="Print where each chain ends, to be written down. So does -v.")] = False
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Of a vault on another machine: keep its signed verdict in FILE and FILE.sig."
        ),
    ] = None
    log: LogOption = None


@dataclasses.dataclass(frozen=True, slots=True)
class RecordOrReadChoice(SignChoice):
    """Whether the verdict is recorded, and who signs that. The key is proved to a vault on another machine, too."""

    GROUP: ClassVar = SIGNING

    record: Annotated[
        bool, typer.Option("--record", help="Append a signed record of the verdict to the chain of every item verified.")
    ] = False


def add_commands(app: typer.Typer) -> None:
    """Adds `verify`."""
    command(
        app,
        "verify",
        "evidencesync verify /srv/vault",
        "evidencesync verify /srv/vault --case 2024-017 --item LAPTOP-1 --acquisition 2 --all-digests",
        "evidencesync verify /srv/vault --record -i ~/.ssh/ana",
        "# A vault on another machine verifies itself, and signs the verdict:",
        "evidencesync verify ana@vault.lab:/srv/vault -o verdict.json",
        "# For whoever distrusts the vault:",
        "evidencesync verify ana@vault.lab:/srv/vault --fetch --trusted my_signers",
        "evidencesync verify /media/vault-copy --trusted my_signers --expect-head 5d0c...",
        "evidencesync verify /srv/vault --tsa-root authority.pem --require-timestamp",
    )(verify)


def verify(
    run: Run,
    vault: VaultAddress,
    part: PartChoice,
    checks: CheckChoice,
    recording: RecordOrReadChoice,
    ssh: RemoteChoice,
    distrust: DistrustChoice,
    result: ResultChoice,
) -> ExitCode:
    """Checks everything: signatures, chains, receipts, and every byte. Writes nothing into the vault, but with --record.

    Ends with 0 only if everything was checked and is as it was acquired. Otherwise each finding states what is wrong, in which
    file and where in it. With --record, a failed verification is recorded as failed. If the record cannot be written, that has
    its own code, unless the verdict's is worse.

    A vault on another machine checks itself there, and signs what it has found: its key vouches for it, and nobody else. With
    --fetch its documents are checked here; what it says of its evidence stays its word.
    """
    part.check()
    address = vault_address(vault)

    def work(logging: Run) -> ExitCode:
        if address.local:
            return _verify_here(logging, vault, part, checks, recording, ssh, distrust, result)
        return _verify_afar(logging, vault, part, checks, recording, ssh, distrust, result)

    of = {"case": part.case, "item": part.item, "vault": address.display()}
    return logged(run, result.log, "verify", work, log_places(None, RunFolders(None, None)), of=of)


def _verify_here(
    run: Run,
    vault: str,
    part: PartChoice,
    checks: CheckChoice,
    recording: RecordOrReadChoice,
    ssh: RemoteChoice,
    distrust: DistrustChoice,
    result: ResultChoice,
) -> ExitCode:
    """Verifies a vault on this machine."""
    if distrust.fetch:
        raise UsageError("--fetch is for a vault on another machine: the documents of this one are here", hint="Leave it out.")
    if result.output is not None:
        raise UsageError("-o is for the verdict that a vault on another machine signs", hint="Print this one: --json > FILE")
    from evidencesync.cli.trust_files import load_roots
    from evidencesync.cli.verify_record import verifier_with
    from evidencesync.vault.vault import Vault

    verifier = verifier_with(run, recording, ssh.identity_file(run.settings)) if recording.record else None
    signers = load_trusted(Path(distrust.trusted)) if distrust.trusted is not None else None
    roots = load_roots(run.settings, checks.tsa_root)
    folder = local_vault(vault)
    if verifier is not None:
        _require_recorder(lambda: Vault.open(folder).load_trust(), verifier, part)
    verdict = audit(run, folder, part, signers, checks, roots=roots, expect_head=distrust.expect_head)
    _record_verdict(run, verdict)
    shown = _shown(run, verdict, vault, result, recording)
    append = None if verifier is None else partial(verifier.append, folder)
    return _conclude(run, verdict, shown, part, verifier, append)


def _require_recorder(load_trust: Callable[[], TrustLists], verifier: Verifier, part: PartChoice) -> None:
    from evidencesync.cli.verify_record import require_recorder

    require_recorder(load_trust, verifier, part.case, _ONLY_CHECKED)


def _conclude(
    run: Run, verdict: Verdict, shown: Iterable[str], part: PartChoice, verifier: Verifier | None, append: Append | None
) -> ExitCode:
    """Records the verdict where somebody signs it, prints it, and returns the exit code of both."""
    from evidencesync.cli.verify_record import exit_code, record_verdict, recorded_lines

    if verifier is None or append is None:
        run.console.print_result(verdict, shown)
        return ExitCode(verdict.exit_code)
    recorded = record_verdict(verdict, part, verifier, append)
    run.console.print_result(recorded, [*shown, *recorded_lines(recorded)])
    return exit_code(recorded)


def _shown(run: Run, verdict: Verdict, vault: str, result: ResultChoice, recording: RecordOrReadChoice) -> Iterator[str]:
    from evidencesync.cli.pasted_hints import pasted
    from evidencesync.cli.verify_next import next_lines

    everything = run.console.verbose
    following = next_lines(verdict, partial(pasted, run.console.fill_hint), recorded=recording.record)
    with_heads = result.heads or everything
    return verdict_lines(verdict, with_heads=with_heads, everything=everything, vault=vault, following=following)


def _verify_afar(
    run: Run,
    vault: str,
    part: PartChoice,
    checks: CheckChoice,
    recording: RecordOrReadChoice,
    ssh: RemoteChoice,
    distrust: DistrustChoice,
    result: ResultChoice,
) -> ExitCode:
    """Verifies a vault on another machine."""
    from evidencesync.cli.verify_afar import appending, by_vault_lines, fetched_vault, verify_afar, verify_fetched
    from evidencesync.cli.verify_record import verifier_with

    if not distrust.fetch:
        _require_its_word(checks, distrust)
    own = _own_check(run, part, checks, distrust) if distrust.fetch else None
    verifier = verifier_with(run, recording, ssh.identity_file(run.settings)) if recording.record else None
    address, reader = vault_address(vault), recording if verifier is None else verifier.signer
    if own is None:
        said = None if verifier is None else _ONLY_CHECKED
        verdict, kept = verify_afar(
            run, address, part, reader, ssh, all_digests=checks.all_digests, output=result.output, to_record=said
        )
    else:
        with fetched_vault(run, vault, part, reader, ssh) as readable:
            if verifier is not None:
                _require_recorder(readable.vault.load_trust, verifier, part)
            verdict, kept = verify_fetched(run, readable, own, result.output)
    _record_verdict(run, verdict)
    lines = [*by_vault_lines(verdict.by_vault), *_shown(run, verdict, vault, result, recording)]
    append = None if verifier is None else appending(run, address, ssh, verifier)
    code = _conclude(run, verdict, lines, part, verifier, append)
    return kept if code is ExitCode.COMPLETE else code


def _record_verdict(run: Run, verdict: Verdict) -> None:
    checked, code = verdict.checked, int(verdict.exit_code)
    counts = {"files": checked.files, "bytes": checked.bytes, "findings": len(verdict.findings)}
    run.events.record("verdict", verdict=verdict.verdict, code=code, **counts)


def _own_check(run: Run, part: PartChoice, checks: CheckChoice, distrust: DistrustChoice) -> OwnCheck:
    from evidencesync.cli.trust_files import load_roots
    from evidencesync.cli.verify_afar import OwnCheck

    return OwnCheck(
        part,
        load_trusted(Path(distrust.trusted)) if distrust.trusted is not None else None,
        checks.all_digests,
        load_roots(run.settings, checks.tsa_root),
        checks.require_timestamp,
        distrust.expect_head,
    )


def _require_its_word(checks: CheckChoice, distrust: DistrustChoice) -> None:
    """Raises UsageError for checks that do not take a vault's word, and so cannot be left to it."""
    asked = {
        "--trusted": distrust.trusted is not None,
        "--expect-head": distrust.expect_head is not None,
        "--require-timestamp": checks.require_timestamp,
        "--tsa-root": checks.tsa_root is not None and TSA_VARIABLE not in os.environ,  # set for other commands, it asks nothing
    }
    named = next((option for option, is_given in asked.items() if is_given), None)
    if named is not None:
        raise UsageError(
            f"{named} is for whoever does not take the vault's word, and a vault on another machine verifies itself",
            hint="With --fetch its documents are fetched, and checked here.",
        )


def checked(
    run: Run,
    readable: ReadableVault,
    part: PartChoice,
    signers: bytes | None,
    checks: CheckChoice,
    *,
    roots: Roots | None = None,
    now_ns: int | None = None,
) -> Verdict:
    """Verifies a part of a vault wherever it lies: what `audit` does, and of a vault on another machine `verify --fetch`."""
    if readable.far is None:
        return audit(run, readable.vault.layout.root, part, signers, checks, roots=roots, now_ns=now_ns)
    from evidencesync.cli.verify_afar import OwnCheck, verify_fetched

    own = OwnCheck(part, signers, checks.all_digests, roots, checks.require_timestamp, now_ns=now_ns)
    return verify_fetched(run, readable, own)[0]


def audit(
    run: Run,
    vault: Path,
    part: PartChoice,
    signers: bytes | None,
    checks: CheckChoice,
    *,
    roots: Roots | None = None,
    expect_head: str | None = None,
    now_ns: int | None = None,
) -> Verdict:
    """Verifies a part of a vault, and shows the progress. `signers` is an allowed_signers file from outside the vault.

    `now_ns` is the time of the check; by default the present. Raises what `audit_vault` raises.
    """
    import time

    from evidencesync.cli.own_state import audit_memory
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.verify.audit import AuditScope, audit_vault
    from evidencesync.verify.context import VerifyProgress
    from evidencesync.verify.totals import begin_counting

    progress = VerifyProgress()
    if run.console.is_live:
        begin_counting(vault, AuditScope(part.case, part.item, part.acquisition), progress)
    with shown(run.console, VerifyView(progress)):
        return audit_vault(
            vault,
            case=part.case,
            item=part.item,
            acquisition=part.acquisition,
            trusted=signers,
            expect_head=expect_head,
            memory=audit_memory(run),
            all_digests=checks.all_digests,
            roots=roots,
            require_timestamp=checks.require_timestamp,
            progress=progress,
            now_ns=time.time_ns() if now_ns is None else now_ns,
        )


def verdict_lines(
    verdict: Verdict,
    *,
    with_heads: bool = False,
    everything: bool = False,
    vault: str | None = None,
    following: Iterable[str] = (),
) -> Iterator[str]:
    """The verdict for people: what was checked, the findings, the worst ones last, how many there are, and the one word.

    Every error is shown; without `everything`, of other findings the first ones of each kind. `vault` is what a person has typed
    for it, `following` what to do now.
    """
    from evidencesync.verify.findings import records_text

    checked = verdict.checked
    parts = [
        count_text(checked.acquisitions, "acquisition"),
        records_text(checked, verdict.heads),
        count_text(checked.files, "file"),
        size_text(checked.bytes),
    ]
    source = "signers from outside" if verdict.trust == "outside" else "the vault's own list of signers"
    is_vault = all(finding.slug != VaultNotFoundError.slug for finding in verdict.findings)
    if is_vault and verdict.vault_id is not None:  # else nothing was opened
        yield f"checked {', '.join(parts)}; {' and '.join(map(safe_text, verdict.digests))}; trust: {source}"
    for head in verdict.heads if with_heads else ():
        whose = "the vault" if head.case is None else f"{safe_text(head.case)} / {safe_text(head.item or '')}"
        yield f"chain head of {whose}: {head.sequence} {head.sha256}"
    from evidencesync.verify.findings import WORST_FIRST, gravity

    gravest_last = sorted(verdict.findings, key=gravity, reverse=True)
    for severity in reversed(WORST_FIRST):
        yield from _findings_lines([finding for finding in gravest_last if finding.severity == severity], everything=everything)
    if not is_vault:
        look = VaultNotFoundError("").hint_for(CommandKind.CHECKS)
        yield f"hint: {look if vault is None else meant_vault(vault) or f'{near_vault(vault)}{look}'}"
    yield from following
    counts = Counter(finding.severity for finding in verdict.findings)
    if counts:
        told = [count_text(counts[severity], severity, _MANY[severity]) for severity in WORST_FIRST if counts[severity]]
        yield f"findings: {', '.join(told)}"
    yield f"verdict: {_WORDS[verdict.verdict]}"


def _findings_lines(findings: list[Finding], *, everything: bool) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.slug] += 1
        if everything or finding.severity == "error" or seen[finding.slug] <= _SHOWN_OF_A_KIND:
            yield from _finding_lines(finding)
    for slug, count in seen.items():
        if not everything and findings[0].severity != "error" and count > _SHOWN_OF_A_KIND:
            yield f"{findings[0].severity}: [{slug}] {count - _SHOWN_OF_A_KIND:,} more of this kind: see them with -v, or --json"


def _finding_lines(finding: Finding) -> Iterator[str]:
    from evidencesync.verify.findings import shown_place

    yield f"{finding.severity}: [{finding.check} {finding.slug}] {finding.message}"
    about = [] if finding.case is None else [safe_text(finding.case)]
    about += [] if finding.item is None else [safe_text(finding.item)]
    about += [] if finding.acquisition is None else [f"acquisition {finding.acquisition}"]
    where = [part for part in (" / ".join(about), shown_place(finding)) if part]
    if where:
        yield f"    {': '.join(where)}"
