"""One machine, one item: the rows that most goals are about."""

from __future__ import annotations

from typing import Final

from tests.bench.contenders import B3sum, Compare, EvidenceSync, HashdeepAroundRsync, HashdeepAudit, Rsync, Verify
from tests.bench.peers import Borg, Casync, Restic, Scp
from tests.bench.row import PEAK_GOAL_MIB, Lane, Ratio, Row, ours
from tests.bench.work import files_work, image_work

_RSYNC: Final = "rsync -a"
_CHECKSUM_RSYNC: Final = "rsync -ac"
_PROOF: Final = HashdeepAroundRsync()
_PLAIN: Final = Lane(Rsync(_RSYNC))
_DURABLE: Final = Lane(Rsync("rsync -a --fsync", ("-a", "--fsync")), (Ratio(_RSYNC),), real_disk_only=True)
_FAST_CIPHER: Final = Lane(Rsync("rsync -a, aes128-gcm", ssh_options=("-c", "aes128-gcm@openssh.com")), (Ratio(_RSYNC),))
_WITH_PROOF: Final = Lane(_PROOF, (Ratio(_RSYNC),))
_CHECKSUMS: Final = Lane(Rsync(_CHECKSUM_RSYNC, ("-ac",)))
_BY_TIME: Final = Lane(Rsync("rsync -a, by time and size"), (Ratio(_CHECKSUM_RSYNC),))
_BY_PROOF: Final = (Ratio(_RSYNC), Ratio(_PROOF.name, 0.35))
_AUDIT: Final = HashdeepAudit()
_VERIFY: Final = (
    Lane(B3sum()),
    Lane(_AUDIT, (Ratio("b3sum"),)),
    Lane(Verify(), (Ratio("b3sum", 1.5), Ratio(_AUDIT.name))),
    Lane(Compare(), (Ratio("b3sum"), Ratio(_AUDIT.name))),
    Lane(Compare("evidencesync compare, both digests", ("--all-digests",)), (Ratio(_AUDIT.name),)),
)

_PEERS: Final = tuple(Lane(peer, (Ratio(_RSYNC),)) for peer in (Scp(), Borg(), Restic(), Casync()))

LOCAL: Final = (
    Row(
        name="A-fresh",
        title="A, nothing there yet",
        work=image_work(),
        lanes=(
            _PLAIN,
            _FAST_CIPHER,
            _DURABLE,
            _WITH_PROOF,
            *_PEERS,
            *ours(Ratio(_RSYNC, wall_goal=0.5), read_back=_BY_PROOF),
        ),
    ),
    Row(
        "A-edits",
        "A, 4 KiB edits in place",
        image_work("edited", known=True),
        lanes=(_PLAIN, _WITH_PROOF, *ours(Ratio(_RSYNC, wall_goal=0.7, wire_goal=0.2), read_back=_BY_PROOF)),
    ),
    Row(
        "A-insert",
        "A, one byte inserted at the front",
        image_work("inserted", known=True),
        lanes=(_PLAIN, *ours(Ratio(_RSYNC, wire_goal=0.05))),
    ),
    Row("A-rename", "A, renamed", image_work("renamed", known=True), lanes=(_PLAIN, *ours(Ratio(_RSYNC, wire_goal=0.0001)))),
    Row(
        "A-unchanged",
        "A, unchanged, every byte compared",
        image_work(known=True),
        lanes=(_CHECKSUMS, *ours(Ratio(_CHECKSUM_RSYNC))),
    ),
    Row("A-verify", "A, checked where it lies", image_work(known=True), lanes=_VERIFY),
    Row(
        name="B-fresh",
        title="B, nothing there yet",
        work=files_work(),
        lanes=(
            _PLAIN,
            _DURABLE,
            _WITH_PROOF,
            *_PEERS,
            *ours(Ratio(_RSYNC, wall_goal=0.8), read_back=_BY_PROOF),
        ),
    ),
    Row(
        name="B-unchanged",
        title="B, unchanged, every byte compared",
        work=files_work(known=1),
        lanes=(
            _CHECKSUMS,
            _BY_TIME,
            Lane(_PROOF, (Ratio(_CHECKSUM_RSYNC),)),
            *ours(
                Ratio(_CHECKSUM_RSYNC, wall_goal=1.2, wire_goal=0.2),
                read_back=(Ratio(_CHECKSUM_RSYNC), Ratio(_PROOF.name, 0.35)),
            ),
        ),
    ),
    Row(
        "B-quick",
        "B, unchanged, once more with --quick",
        files_work(known=2),
        lanes=(
            _PLAIN,
            Lane(
                EvidenceSync("evidencesync --quick, no read-back", ("--no-read-back", "--quick")),
                (Ratio(_RSYNC),),
                peak_goal_mib=PEAK_GOAL_MIB,
            ),
        ),
    ),
    Row("tiny", "ten small files, from typing to prompt", files_work(count=10), lanes=(_PLAIN, *ours(Ratio(_RSYNC)))),
    Row("B-verify", "B, checked where it lies", files_work(known=1), lanes=_VERIFY),
)
