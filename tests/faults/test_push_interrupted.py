"""A push that is ended at any moment, from either side: nothing half published, nothing lost, and the next one works."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evidencesync.acquire.push import push
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.custody.publickey import PublicKey
from evidencesync.errors import ConnectError, LinkLostError
from evidencesync.ingest.receive import receive
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.key_pairs import write_key_pair
from tests.support.patience import PATIENCE_SECONDS

MIB = 1 << 20
ITEM = ("--case", "2026/11", "--item", "E1")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    chance = random.Random(3)
    (bench.source / "image").write_bytes(chance.randbytes(8 * MIB) + bytes(4 * MIB))
    for number in range(100):
        (bench.source / f"{number:03}").write_bytes(chance.randbytes(3000))
    return bench


def assert_sound(bench: Bench, published: int) -> None:
    """Everything that is published verifies, and there is neither more nor less of it than was acknowledged."""
    assert len(bench.acquisitions()) == published
    if published:
        verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
        assert (verdict.verdict, [finding.slug for finding in verdict.findings if finding.severity == "error"]) == ("pass", [])


NEW = 8 * MIB
# What lies in staging when it is ended: a session without a byte, a part, all of it and the documents.
MOMENTS = {"begun": "*", "sending": "*/contents/*", "sent": "*/acquisition/data/image", "concluding": "*/acquisition/SHA256SUMS"}


ENDS = [
    *((signal.SIGKILL, moment) for moment in MOMENTS),
    *((signal.SIGINT, moment) for moment in ("sending", "concluding")),
    (signal.SIGTERM, "sending"),
]


@pytest.mark.parametrize(("number", "moment"), ENDS)
def test_a_push_that_is_ended_leaves_no_half_acquisition(tmp_path: Path, bench: Bench, moment: str, number: int) -> None:
    (bench.source / "image").write_bytes(b"the first version")
    bench.push()
    (bench.source / "image").write_bytes(random.Random(4).randbytes(NEW))
    key = tmp_path / "key"
    write_key_pair(key, "bo")
    bench.vault.trust.add(PublicKey.from_line(key.with_suffix(".pub").read_text()), "bo@lab")
    vault = bench.vault.layout.root
    command: list[str | Path] = [sys.executable, "-m", "evidencesync", "push", bench.source, vault, *ITEM, "--sign-key", key]
    process = subprocess.Popen(
        [*command, "--json", "--receipts", tmp_path / "receipts"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    incoming = bench.vault.layout.item(bench.name).incoming
    while not list(incoming.glob(MOMENTS[moment])) and process.poll() is None:
        time.sleep(0.003)  # it ends by itself if it is missed
    process.send_signal(number)
    process.communicate()
    if number == signal.SIGINT and process.returncode != 0:
        assert process.returncode == 130
    published = len(bench.acquisitions())
    assert published in (1, 2)
    if process.returncode == 0:
        assert published == 2
    assert_sound_after_next_push(bench, published)


def assert_sound_after_next_push(bench: Bench, published: int) -> None:
    """The next writer ends what was left unfinished, and adds one."""
    assert bench.push().acquisition == published + 1
    assert_sound(bench, published + 1)


class CutLink(LocalLink):
    """A connection that breaks after so many bytes from the sender."""

    def __init__(self, end: LocalLink, after: int) -> None:
        super().__init__(end.incoming, end.outgoing)
        self._left = after

    def write(self, data: bytes) -> None:
        """Passes on what still fits, then breaks."""
        if len(data) > self._left:
            super().write(data[: self._left])
            self.close()
            raise LinkLostError("the test has cut the link")
        self._left -= len(data)
        super().write(data)


@pytest.mark.parametrize("after", [0, 10, 700, 5_000, 100_000, 4_000_000, 8_500_000])
def test_a_link_that_breaks_leaves_nothing_published_and_the_lock_free(bench: Bench, after: int) -> None:
    ours, theirs = local_pair()
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            receive(theirs, bench.vault, "a test", may_reconnect=False)
        except Exception as error:  # noqa: BLE001 - looked at below
            ended.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises((LinkLostError, ConnectError)):  # the latter where the vault's end had not said a word yet
        push(CutLink(ours, after), bench.request(compress="never"), Progress())
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert len(ended) == 1
    assert_sound(bench, 0)
    assert bench.push().acquisition == 1
    assert_sound(bench, 1)
