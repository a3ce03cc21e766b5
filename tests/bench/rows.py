"""What is compared with what, and which ratio is the goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.contenders import B3sum, Contender, EvidenceSync, HashdeepAroundRsync, Rsync, Verify

Variant = Literal["same", "edited", "inserted", "renamed"]


@dataclass(frozen=True)
class Ratio:
    """A lane's cost by that of the lane named `against`. Goals are upper bounds; None where there is none."""

    against: str
    wall_goal: float | None = None
    wire_goal: float | None = None


@dataclass(frozen=True)
class Lane:
    """One contender of a row."""

    contender: Contender
    ratios: tuple[Ratio, ...] = ()
    real_disk_only: bool = False  # on a tmpfs it would measure nothing


@dataclass(frozen=True)
class Row:
    """One piece of work: the source is `variant` of `workload`; with `known`, the destination holds the workload already."""

    name: str
    title: str
    workload: Literal["A", "A4", "B"]
    variant: Variant
    known: bool
    lanes: tuple[Lane, ...]
    by_default: bool = True


def _ours(*ratios: Ratio, read_back: tuple[Ratio, ...] | None = None) -> tuple[Lane, Lane]:
    """Both of our lanes: without read-back, which is what most goals are about, and with it, as it is by default."""
    plain = tuple(Ratio(ratio.against, None, ratio.wire_goal) for ratio in ratios)
    return (
        Lane(EvidenceSync("evidencesync, no read-back", ("--no-read-back",)), ratios),
        Lane(EvidenceSync("evidencesync"), plain if read_back is None else read_back),
    )


def _against(name: str, wall: float | None = None, wire: float | None = None) -> Ratio:
    return Ratio(name, wall, wire)


_RSYNC: Final = "rsync -a"
_CHECKSUM_RSYNC: Final = "rsync -ac"
_PROOF: Final = HashdeepAroundRsync()
_PLAIN: Final = Lane(Rsync(_RSYNC))
_DURABLE: Final = Lane(Rsync("rsync -a --fsync", ("-a", "--fsync")), (Ratio(_RSYNC),), real_disk_only=True)
_FAST_CIPHER: Final = Lane(Rsync("rsync -a, aes128-gcm", ssh_options=("-c", "aes128-gcm@openssh.com")), (Ratio(_RSYNC),))
_WITH_PROOF: Final = Lane(_PROOF, (Ratio(_RSYNC),))
_CHECKSUMS: Final = Lane(Rsync(_CHECKSUM_RSYNC, ("-ac",)))
_BY_TIME: Final = Lane(Rsync("rsync -a, by time and size"), (Ratio(_CHECKSUM_RSYNC),))
_VERIFY: Final = (Lane(B3sum()), Lane(Verify(), (Ratio("b3sum", 1.5),)))

ROWS: Final = (
    Row(
        name="A-fresh",
        title="A, nothing there yet",
        workload="A",
        variant="same",
        known=False,
        lanes=(
            _PLAIN,
            _FAST_CIPHER,
            _DURABLE,
            _WITH_PROOF,
            *_ours(_against(_RSYNC, wall=0.5), read_back=(Ratio(_RSYNC), Ratio(_PROOF.name, 0.35))),
        ),
    ),
    Row(
        "A-edits",
        "A, 4 KiB edits in place",
        "A",
        "edited",
        known=True,
        lanes=(_PLAIN, *_ours(_against(_RSYNC, wall=0.7, wire=0.2))),
    ),
    Row(
        "A-insert",
        "A, one byte inserted at the front",
        "A",
        "inserted",
        known=True,
        lanes=(_PLAIN, *_ours(_against(_RSYNC, wire=0.05))),
    ),
    Row("A-rename", "A, renamed", "A", "renamed", known=True, lanes=(_PLAIN, *_ours(_against(_RSYNC, wire=0.0001)))),
    Row(
        "A-unchanged",
        "A, unchanged, every byte compared",
        "A",
        "same",
        known=True,
        lanes=(_CHECKSUMS, *_ours(_against(_CHECKSUM_RSYNC))),
    ),
    Row("A-verify", "A, checked where it lies", "A", "same", known=True, lanes=_VERIFY),
    Row(
        name="B-fresh",
        title="B, nothing there yet",
        workload="B",
        variant="same",
        known=False,
        lanes=(
            _PLAIN,
            _DURABLE,
            _WITH_PROOF,
            *_ours(_against(_RSYNC, wall=0.8), read_back=(Ratio(_RSYNC), Ratio(_PROOF.name))),
        ),
    ),
    Row(
        name="B-unchanged",
        title="B, unchanged, every byte compared",
        workload="B",
        variant="same",
        known=True,
        lanes=(_CHECKSUMS, _BY_TIME, *_ours(_against(_CHECKSUM_RSYNC, wall=1.2, wire=0.2))),
    ),
    Row("B-verify", "B, checked where it lies", "B", "same", known=True, lanes=_VERIFY),
    Row(
        name="A4-fresh",
        title="four times A, nothing there yet (for the memory)",
        workload="A4",
        variant="same",
        known=False,
        lanes=(_PLAIN, *_ours(_against(_RSYNC))),
        by_default=False,
    ),
)
