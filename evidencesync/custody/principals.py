"""Says which names may be a signer's principal: none that a reader would take for the vault's own name.

Lists of vaults that were made before this rule may hold other principals: they are read, retired and revoked as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from evidencesync.errors import InvalidNameError
from evidencesync.evidence.display import is_clean, is_invisible, safe_text
from evidencesync.limits import MAX_TITLE

VAULT_PRINCIPAL: Final = "vault"
"""The name under which a vault signs, and nobody else."""

_NAME_THE_PERSON: Final = "Name the person, such as ana@lab: a reader of a record must not take an examiner for the vault."
# What looks like one of the five letters, after NFKD and casefold. From Unicode's confusables.txt (UTS 39), and what people write
# for letters. `i` stands for `l`: a capital I is drawn like it.
_LOOKS: Final[Mapping[str, str]] = {
    "v": "νѵᴠ∨⋁٧۷טᏙꓦᐯⴸ√",
    "a": "αаɑᴀᎪꓮᗅ⍺∀λⲁ4@",
    "u": "υսᴜꞟʋμꭎꭒ∪⋃ꓴᑌц",
    "l": "1iıіӏι|ǀ∣ا١۱וןⵏꓲᛁłƚⲓꙇɩ!ʟᏞꓡ",
    "t": "τтᴛŧƫ†+⊤⟙Ꭲꓔⲧ7",
}


def check_principal(principal: str) -> None:
    """Checks a new signer's name. Raises InvalidNameError, with the limit or the reason."""
    if not principal.strip() or len(principal) > MAX_TITLE or not is_clean(principal):
        raise InvalidNameError(
            f"not usable as the name of a signer: {safe_text(principal, 80)}",
            hint=f"A signer's name has 1 to {MAX_TITLE} characters, none of them a control character.",
        )
    if principal == VAULT_PRINCIPAL:
        raise InvalidNameError(f"the name {VAULT_PRINCIPAL} is the vault's own", hint=_NAME_THE_PERSON)
    if looks_like_vault(principal):
        raise InvalidNameError(
            f"the name {safe_text(principal, 80)} looks like {VAULT_PRINCIPAL}, which is the vault's own",
            hint=_NAME_THE_PERSON,
        )


def check_receiver(to: str, *, outside: bool) -> None:
    """Checks whom a hand-over names: never the vault, which accepts nothing. Raises InvalidNameError.

    A name that only looks like the vault's is refused for a person outside; another must be trusted under it anyhow.
    """
    if to.strip() == VAULT_PRINCIPAL or (outside and looks_like_vault(to)):
        raise InvalidNameError(
            f"the name {safe_text(to, 80)} is, or looks like, the vault's own",
            hint="Name the person who receives the item: a vault accepts nothing.",
        )


def looks_like_vault(principal: str) -> bool:
    """Whether a reader may take a principal for the vault's own: all of it, or what stands before an `@`.

    Neither case, spaces, marks nor signs make a difference, nor do letters of other scripts that look the same.
    """
    return any(_skeleton(part) == VAULT_PRINCIPAL for part in (principal, *_before_signs(principal)))


def _before_signs(principal: str) -> Iterator[str]:
    at = principal.find("@")
    while at >= 0:
        yield principal[:at]
        at = principal.find("@", at + 1)


def _skeleton(text: str) -> str:
    """What is left of a text when it is read with half an eye."""
    letters = _plain(text).translate(_LETTERS)
    return "".join(one for one in letters if one.isalnum() and not is_invisible(one))


def _plain(text: str) -> str:
    """Text without differences of case and form; marks stand after their letters."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


_LETTERS: Final = {ord(_plain(look)): letter for letter, looks in _LOOKS.items() for look in looks}
