"""Which names a signer may have: none that a reader would take for the vault."""

from __future__ import annotations

import pytest

from evidencesync.custody.principals import check_principal, check_receiver, looks_like_vault
from evidencesync.errors import InvalidNameError
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_TITLE

LOOK_ALIKE = [
    "Vault",
    "VAULT",
    " vault",
    "vault ",
    "v a u l t",
    "vault.",
    "(vault)",
    "vault@",
    "vault@lab",
    "Vault @ lab",
    "vauIt",
    "VauIT",
    "vau1t",
    "v4ult",
    "v@ult",
    "v@ult@lab",
    "vau|t",
    "ѵаυӏт",
    "ᴠᴀᴜʟᴛ",
    "ＶＡＵＬＴ",
    "𝐯𝐚𝐮𝐥𝐭",
    "ⓥⓐⓤⓛⓣ",
    "váült",
    "va\u0301ult",
    "vault\u3164",
    "va\u034fult",
    "\ufe0fvault",
    "vaułt",
    "ⅴault",
    "\u13d9\u13aa\u222a\u13de\u13a2",
]
OTHERS = ["ana", "ana@lab", "ana vault", "vaultkeeper@lab", "Vaultier", "vaults@lab", "ana@vault", "валентина", "lab vault"]


@pytest.mark.parametrize("principal", ["vault", *LOOK_ALIKE])
def test_no_signer_gets_a_name_that_looks_like_the_vaults(principal: str) -> None:
    assert looks_like_vault(principal)
    with pytest.raises(InvalidNameError, match="vault's own") as refused:
        check_principal(principal)
    assert refused.value.exit_code is ExitCode.USAGE
    with pytest.raises(InvalidNameError, match="vault's own"):
        check_receiver(principal, outside=True)


@pytest.mark.parametrize("principal", OTHERS)
def test_other_names_are_taken(principal: str) -> None:
    check_principal(principal)
    check_receiver(principal, outside=True)


def test_a_name_that_no_document_could_state_is_refused_with_the_limit() -> None:
    check_principal("x" * MAX_TITLE)
    for principal in ("", "  ", "x" * (MAX_TITLE + 1), "a\u202eb", "a\U000e0100b"):
        with pytest.raises(InvalidNameError) as refused:
            check_principal(principal)
        assert str(MAX_TITLE) in (refused.value.hint or "")


def test_an_item_is_not_handed_over_to_the_vault_but_may_be_to_somebody_whom_an_older_one_trusts_under_such_a_name() -> None:
    check_receiver("Vault", outside=False)  # the vault must know it, as every other
    with pytest.raises(InvalidNameError):
        check_receiver("vault", outside=False)
