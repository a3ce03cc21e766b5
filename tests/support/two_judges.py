"""ssh-keygen and evidencesync, asked about the same signature."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evidencesync.custody.trust import RevokedKeys, TrustedSigners, TrustLists
from evidencesync.errors import SignatureError, TrustFileError, UntrustedSignerError
from tests.support import attacks_on_envelopes, attacks_on_lists
from tests.support.signature_attacks import DOCUMENT, WAYS, Attack, attack
from tests.support.signing_keys import SoftKey
from tests.support.soak import Tally

assert {make.__module__ for make in WAYS.values()} == {attacks_on_envelopes.__name__, attacks_on_lists.__name__}

# Why we refuse what ssh-keygen accepts, by what our error says: docs/formats.md explains each.
REASONS: dict[str, tuple[str, ...]] = {
    "armor": ("in the one form that ssh-keygen writes", "before or after it", "is not base64"),
    "version": ("of version 1",),
    "digest": ("digest is not sha512",),
    "reserved": ("reserved field",),
    "number": ("shortest form",),
    "token": ("without a touch", "no usable application string"),
    "small-key": ("bits; 3072",),
    "key-type": ("may not sign",),
    "length": ("of another kind",),
    "malleable": ("does not fit",),
    "text": ("control characters", "not ASCII", "not UTF-8", "not a principal's name"),
    "list": ("trusted signers, line", "cert", "too long"),
    "revocations": ("revoked keys, line", "binary KRL"),
}


@dataclass
class Score:
    """What came out: all, those that both accept and refuse, and the reasons for which only we refuse."""

    both_accept: int = 0
    both_refuse: int = 0
    only_we_refuse: dict[str, int] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)
    only_we_accept: list[str] = field(default_factory=list)
    ways: dict[str, list[int]] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """How many signatures were judged."""
        return self.both_accept + self.both_refuse + sum(self.only_we_refuse.values()) + len(self.only_we_accept)

    def lines(self) -> list[str]:
        """For people."""
        found = [f"signatures judged: {self.judged}; accepted by both {self.both_accept}, refused by both {self.both_refuse}"]
        found += [f"accepted by us alone: {len(self.only_we_accept)}"]
        found += [f"refused by us alone ({reason}): {count}" for reason, count in sorted(self.only_we_refuse.items())]
        return found


def we_refuse(attack: Attack) -> str | None:
    """Why we refuse; None when we accept. Anything but our own errors is raised."""
    try:
        trust = TrustLists(TrustedSigners.parse(attack.trusted), RevokedKeys.parse(attack.revoked))
        trust.check_signature(
            attack.signature, attack.namespace, hashlib.sha512(DOCUMENT).digest(), attack.principal, attack.at * 1_000_000_000
        )
    except (SignatureError, TrustFileError, UntrustedSignerError) as error:
        return error.message
    return None


def keygen_accepts(program: str, folder: Path, attack: Attack) -> bool:
    """What `ssh-keygen -Y verify` says."""
    for name, data in (("trusted", attack.trusted), ("revoked", attack.revoked), ("signature", attack.signature)):
        (folder / name).write_bytes(data)
    at = _clock(attack.at)
    command = [program, "-Y", "verify", "-f", "trusted", "-r", "revoked", "-I", attack.principal, "-n", attack.namespace]
    command += ["-s", "signature", f"-Overify-time={at}"]
    done = subprocess.run(command, input=DOCUMENT, capture_output=True, cwd=folder, check=False)
    return done.returncode == 0


def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ")


def judge(program: str, folder: Path, keys: list[SoftKey], seed: int, numbers: range) -> Score:
    """Both judges about every attack of these numbers."""
    score, progress = Score(), Tally("attacks")
    for number in numbers:
        progress.count()
        one = attack(number, seed, keys)
        ours = we_refuse(one)
        theirs = keygen_accepts(program, folder, one)
        tally = score.ways.setdefault(one.way, [0, 0])
        tally[0] += 1
        tally[1] += ours is not None and theirs
        if ours is None and theirs:
            score.both_accept += 1
        elif ours is None:
            score.only_we_accept.append(f"attack {number} with seed {seed}: {one}")
        elif not theirs:
            score.both_refuse += 1
        else:
            reason = next((name for name, texts in REASONS.items() if any(text in ours for text in texts)), "")
            score.only_we_refuse[reason or "?"] = score.only_we_refuse.get(reason or "?", 0) + 1
            if not reason:
                score.unexplained.append(f"attack {number} with seed {seed} ({one.way}, {one.kind}): {ours}")
    return score
