"""A timestamp that is attached to an acquisition of a far vault: whole or not at all, once, and by whatever link."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evidencesync.acquire import connect
from evidencesync.acquire.custody import Appended, attach_timestamp
from evidencesync.acquire.custody_exchange import CustodyExchange
from evidencesync.acquire.stamping import Stamping
from evidencesync.custody.timestamp import Request, Roots
from evidencesync.errors import ChainError, EvidenceSyncError, LinkLostError, TimestampError, VersionError
from evidencesync.ingest import custody, stamping
from evidencesync.protocol.messages import ATTACH_VERSION, VERSIONS
from evidencesync.vault.layout import MANIFEST_SIGNATURE, RECEIPT, TIMESTAMP, TIMESTAMP_REQUEST
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.timestamps import Answer, load_stamped
from evidencesync.verify.audit import audit_vault
from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.test_custody import _far
from tests.support.authority import Authority, make_authority
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import chain_of, custody_request, state
from tests.support.cut_links import CutLink
from tests.support.time_server import Exchange, time_server

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "small").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def answer_of(bench: Bench, authority: Authority, nonce: int = 7) -> Answer:
    """What an authority answers about the bench's acquisition."""
    stamped = load_stamped(bench.vault.item(bench.name), 1)
    return Answer(authority.forge(stamped, time.time_ns(), nonce=nonce), Request.over(stamped, "sha512", nonce).encode())


def attach(bench: Bench, answer: Answer, reach: Callable[[], Any] | None = None, **changes: Any) -> Appended:
    """As an honest client does it."""
    made = Stamping.of(bench.vault.item(bench.name), 1, answer, None)
    return attach_timestamp(reach or (lambda: bench.serve()[0]), custody_request(bench, **changes), made)


def stored(bench: Bench) -> tuple[bytes | None, ...]:
    files = (bench.acquisition(1) / name for name in (TIMESTAMP, TIMESTAMP_REQUEST))
    return tuple(file.read_bytes() if file.exists() else None for file in files)


def require_attached(bench: Bench, answer: Answer, authority: Authority) -> None:
    """It is in place, recorded once, and `verify` says so."""
    assert stored(bench) == (answer.response, answer.request)
    records = [one.record for one in chain_of(bench).records if one.record.type == "timestamped"]
    assert [(one.acquisition, one.actor.principal) for one in records] == [(1, "ana@lab")]
    roots = Roots.parse(authority.root_pem, "root")
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns(), roots=roots, require_timestamp=True)
    assert verdict.verdict == "pass", verdict.findings


# --- Over a real sshd ------------------------------------------------------------------------------------------------------


def test_a_timestamp_is_attached_and_another_one_fetched_over_ssh(tmp_path: Path, sshd: Sshd, authority: Authority) -> None:
    lab = Lab.make(tmp_path)
    for content in (b"hello", b"again"):
        lab.write("notes.txt", content)
        assert lab.push().code == 0
    (lab.folder / "root.pem").write_bytes(authority.root_pem)
    far, options = _far(lab, sshd, forced=True)
    sign = ("--sign-key", "ana", "--examiner", "Ana", "--tsa-root", "root.pem", "--json", *options)
    assert lab.run("timestamp", "request", far, *ITEM, "--acquisition", "1", "-o", "r.tsq", *sign[:2], *options).code == 0

    def answer(asked: bytes, number: int = 1) -> bytes:
        stamped = (lab.acquisition(number) / MANIFEST_SIGNATURE).read_bytes()
        return authority.forge(stamped, time.time_ns(), nonce=Request.decode(asked).nonce)

    (lab.folder / "r.tsr").write_bytes(answer((lab.folder / "r.tsq").read_bytes()))
    wrong = lab.run("timestamp", "attach", far, "r.tsr", *ITEM, *sign)
    assert (wrong.code, wrong.error["slug"]) == (33, "bad-timestamp"), "it is about the first acquisition, and not the last"
    attached = lab.run("timestamp", "attach", far, "r.tsr", *ITEM, "--acquisition", "1", *sign)
    assert (attached.code, attached.err, schema_errors(attached.document, "timestamp-output")) == (0, "", []), attached
    assert (attached.document["record"], attached.document["token"]["authority_checked"]) == (5, True)
    again = lab.run("timestamp", "attach", far, "r.tsr", *ITEM, "--acquisition", "1", *sign)
    assert (again.code, again.document["record"]) == (0, 5), "it is there, and is not added again"

    exchange = Exchange(lambda asked: answer(asked, 2))
    with time_server(exchange) as url:
        fetched = lab.run("timestamp", "fetch", far, *ITEM, "--tsa", url, *sign)
        assert (fetched.code, fetched.document["record"]) == (0, 6), fetched
        assert lab.run("timestamp", "fetch", far, *ITEM, "--tsa", url, *sign).code == 33, "there is one already"
    assert len(exchange.asked) == 1
    lab.make_key("eve")
    assert lab.run("timestamp", "fetch", far, *ITEM, "--tsa", url, "--sign-key", "eve", *options).code == 32
    judged = lab.run("verify", "vault", "--tsa-root", "root.pem", "--require-timestamp", "--json")
    assert (judged.code, [one["slug"] for one in judged.document["findings"]]) == (0, ["timestamp", "timestamp"])


# --- Cut short -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_it_is_attached_once_wherever_the_link_is_lost(
    template: Bench, tmp_path: Path, direction: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.01)

    def fresh(name: str) -> Bench:
        (tmp_path / name).mkdir()
        return copy_of(template, tmp_path / name)

    measured = fresh("measured")
    whole, _ = measured.serve()
    attach(measured, answer_of(measured, authority), lambda: whole)
    total = whole.wire_sent if direction == "sent" else whole.wire_received
    for at in sorted({*range(0, total, total // 8), total - 1}):
        bench = fresh(f"cut-{at}")
        links: list[int] = []

        def reach(at: int = at, links: list[int] = links, bench: Bench = bench) -> Any:
            links.append(1)
            link = bench.serve()[0]
            cut = CutLink(link, sent=at) if direction == "sent" else CutLink(link, received=at)
            return cut if len(links) == 1 else link

        answer = answer_of(bench, authority)
        assert attach(bench, answer, reach, retries=2).record.record.sequence == 3
        require_attached(bench, answer, authority)


def killed(*_: object, **__: object) -> None:
    """In a process this would be its end."""
    raise LinkLostError("killed")


KILLS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int]] = {
    "before anything is stored": (lambda patch: patch.setattr(stamping, "store_answer", killed), 0),
    "between the files and the record": (lambda patch: patch.setattr(Ledger, "append", killed), 2),
    "before the vault has stated it": (lambda patch: patch.setattr(custody, "state_head", killed), 2),
}


@pytest.mark.parametrize("when", KILLS)
def test_what_was_killed_at_the_vault_is_completed_by_the_same_command(
    bench: Bench, when: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, (kill, files) = answer_of(bench, authority), KILLS[when]
    with monkeypatch.context() as patch, pytest.raises(EvidenceSyncError):
        kill(patch)
        attach(bench, answer)
    assert sum(one is not None for one in stored(bench)) == files
    if files:
        with pytest.raises(TimestampError, match="nothing is ever replaced"):
            attach(bench, answer_of(bench, authority, nonce=8))
    assert attach(bench, answer).record.record.sequence == 3
    require_attached(bench, answer, authority)


def test_a_file_that_was_lost_is_put_back_by_whoever_has_it(bench: Bench, authority: Authority) -> None:
    """Its record is another's, and later ones follow: nothing is signed, and nothing appended."""
    answer = answer_of(bench, authority)
    attach(bench, answer)
    state(bench, "noted", {"text": "later"})
    ben = new_signer()
    bench.vault.trust.add(ben.public_key, "ben@lab")
    for name in (TIMESTAMP, TIMESTAMP_REQUEST):
        (bench.acquisition(1) / name).unlink()
        assert attach(bench, answer, signer=ben).record.record.sequence == 3
        require_attached(bench, answer, authority)
    assert len(chain_of(bench).records) == 4


def test_nothing_is_ever_replaced(bench: Bench, authority: Authority) -> None:
    first = answer_of(bench, authority)
    attach(bench, first)
    for other in (answer_of(bench, authority, nonce=8), Answer(first.response, None)):
        with pytest.raises(TimestampError, match="nothing is ever replaced"):
            attach(bench, other)
    require_attached(bench, first, authority)


# --- Vaults that are older, or lie -----------------------------------------------------------------------------------------


def test_an_older_vault_is_told_nothing_and_nothing_is_signed(
    bench: Bench, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tuple(one for one in VERSIONS if one < ATTACH_VERSION)
    monkeypatch.setattr("evidencesync.protocol.failures.VERSIONS", older)
    with pytest.raises(VersionError, match="takes no timestamp from afar"):
        attach(bench, answer_of(bench, authority))
    assert (stored(bench), len(chain_of(bench).records)) == ((None, None), 2)


def other_item(bench: Bench, tmp_path: Path) -> Bench:
    """Another vault, whose documents the hostile one shows."""
    (tmp_path / "other").mkdir()
    made = make_bench(tmp_path / "other")
    (made.source / "small").write_bytes(b"other evidence")
    made.push()
    return made


def test_a_vault_that_shows_another_items_signature_gets_no_record(
    bench: Bench, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, shown = other_item(bench, tmp_path), bench.acquisition(1)
    answer = answer_of(other, authority)
    kept = {name: (shown / name).read_bytes() for name in (MANIFEST_SIGNATURE, RECEIPT)}

    def show(*names: str) -> None:
        for name, data in kept.items():
            (shown / name).unlink()
            (shown / name).write_bytes((other.acquisition(1) / name).read_bytes() if name in names else data)

    show(MANIFEST_SIGNATURE)
    with pytest.raises(ChainError, match="another signature"):
        Stamping.of(bench.vault.item(bench.name), 1, answer, None)
    show(MANIFEST_SIGNATURE, RECEIPT)
    made = Stamping.of(bench.vault.item(bench.name), 1, answer, None)
    show()
    sent: list[bytes] = []
    monkeypatch.setattr(CustodyExchange, "attach", lambda *_: sent.append(b""))
    with pytest.raises(ChainError, match="does not record acquisition 1 with the receipt"):
        attach_timestamp(lambda: bench.serve()[0], custody_request(bench), made)
    assert sent == []


def test_a_vault_that_takes_a_timestamp_and_shows_no_record_is_found(
    bench: Bench, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "_append", lambda *_: None)
    with pytest.raises(ChainError, match="does not show it"):
        attach(bench, answer_of(bench, authority))
