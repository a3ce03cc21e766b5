"""Attack: a vault's end that signs for everything as it should, and dates it in another age.

Nothing is refused for that, for the evidence is there. But the push tells it while somebody can still look; so do `receipts
check` and `verify`, by one rule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.push import push
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.progress import Progress
from evidencesync.ingest import receipt as ingest_receipt
from evidencesync.localstate.files import KeptFolder
from evidencesync.localstate.receipt_checks import check_kept
from evidencesync.localstate.receipts import ReceiptDraft
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.patience import PATIENCE_SECONDS

LONG_AGO, SOME_DAY = "1990-01-01T00:00:00.000000Z", "2090-01-01T00:00:00.000000Z"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "small").write_bytes(b"small")
    return made


def test_a_push_to_an_honest_vault_tells_nothing(bench: Bench) -> None:
    assert bench.push().contradictions == []


@pytest.mark.parametrize("day", [LONG_AGO, SOME_DAY])
@pytest.mark.parametrize("lies", [{"make_receipt"}, {"make_received"}, {"make_receipt", "make_received"}])
def test_what_a_vault_dates_in_another_age_is_told_by_the_push_the_receipts_and_verify(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies: set[str], day: str
) -> None:
    """The same sentences, from both sides: the vault's end itself lies here, and publishes what it says."""
    for which in lies:
        monkeypatch.setattr(f"evidencesync.ingest.receipt.{which}", dated(monkeypatch, getattr(ingest_receipt, which), day))
    (tmp_path / "receipts").mkdir()
    draft = ReceiptDraft(KeptFolder(tmp_path / "receipts"))
    link, thread = bench.serve()
    outcome = push(link, bench.request(), Progress(), recorder=SessionRecorder(None, draft))
    thread.join(PATIENCE_SECONDS)
    kept = draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name()).folder
    told = [text for text in outcome.contradictions if "arrived here" not in text]
    assert told
    assert all(day[:10] in text for text in outcome.contradictions)
    assert len(outcome.contradictions) - len(told) == (len(lies) if day == SOME_DAY else 0)

    checked = check_kept(kept, None, LONG_AFTER_NS)
    assert (checked.problems, checked.contradictions) == ([], told)

    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    assert [one.message for one in verdict.findings if one.slug == "times-contradict" and one.acquisition == 1] == told


def dated(monkeypatch: pytest.MonkeyPatch, make: Callable[..., bytes], day: str) -> Callable[..., bytes]:
    """Makes a document of the vault's, with another date."""

    def lie(*arguments: object) -> bytes:
        with monkeypatch.context() as within:
            within.setattr(ingest_receipt, "format_utc_time", lambda _: day)
            return make(*arguments)

    return lie
