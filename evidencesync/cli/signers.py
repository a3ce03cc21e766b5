"""How the signers that a vault trusts are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from evidencesync.cli.grants import may_text
from evidencesync.cli.lines import wrapped
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import time_text

if TYPE_CHECKING:
    from evidencesync.cli.outputs import SignerOutput
    from evidencesync.vault.trust import KnownSigner
    from evidencesync.vault.vault import Vault

_NAME: Final = 24  # characters of a signer's name that has a column


def signers_of(vault: Vault) -> list[SignerOutput]:
    """All signers that a vault trusts, its own key first. Raises what loading the lists raises."""
    keys = vault.keys
    given_up = {key: change.number for key, change in zip(keys.all, keys.changes, strict=False)}
    return [_output(known, given_up.get(known.signer.key.fingerprint)) for known in vault.trust.signers()]


def _output(known: KnownSigner, given_up: int | None) -> SignerOutput:
    from evidencesync.cli.outputs import SignerOutput

    signer = known.signer
    return SignerOutput(
        principals=list(signer.principals),
        key=signer.key.fingerprint,
        algorithm=signer.key.algorithm,
        namespaces=list(signer.namespaces) if signer.namespaces is not None else None,
        valid_after=signer.valid_after,
        valid_before=signer.valid_before,
        revoked=known.revoked,
        may=list(known.grant.may) if known.told else None,
        cases=list(known.grant.cases) if known.grant.cases is not None else None,
        until=known.grant.until,
        given_up=given_up,
    )


def signer_text(signer: SignerOutput) -> str:
    """A signer on one line."""
    return "  ".join([safe_text(",".join(signer.principals)), safe_text(signer.algorithm), signer.key])


def signer_lines(signers: list[SignerOutput]) -> Iterator[str]:
    """A table of signers; a second line says for how long one is trusted, if not always."""
    names = [safe_text(",".join(signer.principals)) for signer in signers]
    wide = min(max(map(len, names), default=0), _NAME)
    kinds = max((len(signer.algorithm) for signer in signers), default=0)
    for signer, name in zip(signers, names, strict=True):
        yield from wrapped("", f"{name:<{wide}}  {safe_text(signer.algorithm):<{kinds}}  {signer.key}")
        yield from (f"    {held}" for held in (_validity(signer), may_text(signer)) if held is not None)


def _validity(signer: SignerOutput) -> str | None:
    from evidencesync.evidence.utc_time import format_utc_time

    def shown(seconds: int) -> str:
        return time_text(format_utc_time(seconds * 1_000_000_000))

    parts = [f"trusted from {shown(signer.valid_after)}"] if signer.valid_after is not None else []
    parts += [f"until {shown(signer.valid_before)}"] if signer.valid_before is not None else []
    parts += [f"given up in record {signer.given_up}: it signs nothing more"] if signer.given_up is not None else []
    return "  ".join([*parts, *(["REVOKED"] if signer.revoked else [])]) or None
