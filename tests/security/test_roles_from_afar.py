"""Attack: to do from afar what one's roles do not allow. Each role tries every question; no refusal tells what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from evidencesync.custody.roles import USUAL, Role, make_grant
from evidencesync.errors import EvidenceSyncError, NotAllowedError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.rights import Rights
from evidencesync.protocol.document_messages import AllManifestsAsk, DocumentBatch, DocumentsAsk, ManifestsAsk, RoomAsk, RoomShown
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, Patch, PatchAsk, Rows, RowsAsk
from evidencesync.protocol.failures import failure_of
from evidencesync.protocol.messages import ASKING_VERSION, ROLES_VERSION, Alike, Failure, Message, Patience, Ready
from evidencesync.protocol.verdict_messages import RecordAllowed, RecordAsk, VerdictShown, VerifyAsk
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.custody_client import CustodyClient
from tests.support.hostile_client import HostileClient, HostileReader

ROLES: tuple[Role, ...] = get_args(Role)
MINE, OTHERS = ItemName(Title("2026/11"), Title("E1")), ItemName(Title("2026/12"), Title("E1"))
DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two cases with the same evidence."""
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"a" * 300_000)
    for name in (MINE, OTHERS):
        replace(bench, name=name).push()
    return bench


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


def only(bench: Bench, *may: Role, cases: tuple[str, ...] | None = None) -> Bench:
    bench.vault.trust.change(bench.signer.public_key, make_grant(may, cases, None))
    return bench


def question(name: ItemName, of: str) -> Message:
    case, item = name.case.text, name.item.text
    return {
        "documents": DocumentsAsk(case, item, [0]),
        "manifests": ManifestsAsk(case, item, [0]),
        "all manifests": AllManifestsAsk(case, item),
        "evidence": EvidenceAsk(case, item, 1, [(b"a", 0, 10)]),
        "patch": PatchAsk(case, item, 1, b"a", 0, 10, b"123456"),
        "rows": RowsAsk(case, item, 1),
        "room": RoomAsk(case, item),
        "recording": RecordAsk(case),
        "verify": VerifyAsk(bytes(32), case, item, 1, all_digests=False),
    }[of]


NEEDED: dict[str, tuple[Role, type[Message]]] = {
    "documents": ("read", DocumentBatch),
    "manifests": ("read", DocumentBatch),
    "all manifests": ("read", DocumentBatch),
    "evidence": ("read", EvidenceParts),
    "patch": ("read", Patch),
    "rows": ("read", Rows),
    "room": ("acquire", RoomShown),
    "recording": ("custody", RecordAllowed),
    "verify": ("verify", VerdictShown),
}


def answer(bench: Bench, message: Message, kind: type[Message]) -> type[Message] | str:
    """The kind of what comes for one question, or the reason why nothing does."""
    reader = HostileReader(bench)
    try:
        reader.enter(reader.claim_to_read())
        reader.send(message)
        return type(reader.hear(kind))
    except EvidenceSyncError as error:
        return error.slug
    finally:
        reader.link.close()


@pytest.mark.parametrize("role", ROLES)
def test_each_role_asks_what_it_is_for_and_nothing_else(bench: Bench, role: Role) -> None:
    only(bench, role)
    for of, (needed, kind) in NEEDED.items():
        found = answer(bench, question(MINE, of), kind)
        is_answered = role == needed and of != "recording"  # to ask that, one has to be a reader besides
        assert found == (kind if is_answered else "untrusted-signer"), of  # this reader is older than roles


@pytest.mark.parametrize(("may", "is_allowed"), [(("verify", "custody"), True), (("verify", "read", "acquire"), False)])
def test_who_verifies_is_told_beforehand_whether_that_can_be_recorded(
    bench: Bench, may: tuple[Role, ...], *, is_allowed: bool
) -> None:
    only(bench, *may, cases=(MINE.case.text,))
    for message in (RecordAsk(MINE.case.text), RecordAsk(None)):
        assert answer(bench, message, RecordAllowed) == (RecordAllowed if is_allowed else "untrusted-signer")
    assert answer(bench, RecordAsk(OTHERS.case.text), RecordAllowed) == "untrusted-signer"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_opens_the_sessions_that_it_is_for(bench: Bench, role: Role) -> None:
    only(bench, role)
    pushed = Bench.push if role == "acquire" else refused(Bench.push)
    pushed(bench)
    shown, appended = (role in ("custody", "read")), role == "custody"
    client = CustodyClient(bench)
    (client.enter if shown else refused(client.enter))()
    if shown:
        document = client.statement()
        (client.append if appended else refused(client.append))(document)
    client.link.close()


def refused(do: Callable[..., object]) -> Callable[..., None]:
    def done(*given: object) -> None:
        with pytest.raises(EvidenceSyncError) as error:
            do(*given)
        assert error.value.slug in ("not-allowed", "untrusted-signer")

    return done


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("of", NEEDED)
def test_whether_another_case_is_there_is_not_told(bench: Bench, of: str, there: bool) -> None:
    """The answer is the same to the letter, but for the number that was asked for."""
    only(bench, *USUAL.may, cases=("2026/11",))
    name = OTHERS if there else ItemName(Title("2026/13"), Title("E1"))
    reader = HostileReader(bench)
    reader.enter(reader.claim_to_read())
    reader.send(question(name, of))
    with pytest.raises(EvidenceSyncError) as error:
        reader.hear(NEEDED[of][1])
    assert error.value.message == f"ana@lab may {NEEDED[of][0]} in case 2026/11, and not in case {name.case.text}"
    assert answer(bench, question(MINE, of), NEEDED[of][1]) is NEEDED[of][1]


@pytest.mark.parametrize("of", ["evidence", "rows", "verify"])
def test_the_name_of_a_folder_opens_no_other_case(bench: Bench, of: str) -> None:
    """A key for `2026-*` asks for a case by the name of the folder of 2026/12, which the vault's own chain tells everybody."""
    only(bench, *USUAL.may, cases=("2026-*",))
    by_folder = ItemName(Title(OTHERS.case.folder), OTHERS.item)
    assert answer(bench, question(by_folder, of), NEEDED[of][1]) == "untrusted-signer"
    only(bench, *USUAL.may, cases=("2026/*", "2026-*"))
    assert answer(bench, question(OTHERS, of), NEEDED[of][1]) is NEEDED[of][1]
    not_there = ItemName(Title("2026/13"), OTHERS.item)
    assert answer(bench, question(not_there, of), NEEDED[of][1]) != "untrusted-signer"


def names(bench: Bench, case: str | None) -> Iterator[str]:
    """The documents that are named to a reader who asks for a case, or for all."""
    reader = HostileReader(bench)
    reader.enter(reader.claim_to_read())
    reader.send(DocumentsAsk(case, None, []))
    while files := reader.hear(DocumentBatch).files:
        yield from (path for path, _ in files)
    reader.link.close()


def test_of_all_documents_only_those_of_ones_cases_are_shown(bench: Bench) -> None:
    folders = {f"cases/{name.case.folder}" for name in (MINE, OTHERS)}
    assert {"/".join(path.split("/")[:2]) for path in names(bench, None) if path.startswith("cases/")} == folders
    only(bench, "read", cases=("2026/11",))
    shown = {"/".join(path.split("/")[:2]) for path in names(bench, None) if path.startswith("cases/")}
    assert shown == {f"cases/{MINE.case.folder}"}


def test_all_manifests_of_a_vault_are_for_who_may_read_all_of_it(bench: Bench) -> None:
    """Where some cases are left out, the vault would seem to have lost them."""
    only(bench, "read", cases=("2026/11",))
    assert answer(bench, AllManifestsAsk(None, None), DocumentBatch) == "untrusted-signer"
    assert answer(bench, AllManifestsAsk("2026/11", None), DocumentBatch) is DocumentBatch


def test_who_asks_for_a_case_that_is_not_there_is_told_of_no_case_that_one_may_not_read(bench: Bench) -> None:
    only(bench, "read", cases=("2026/1", "2026/1?x"))
    assert not [path for path in names(bench, "2026/1") if path.startswith("cases/")]


def test_a_slip_is_not_answered_with_the_numbers_of_other_cases(bench: Bench) -> None:
    """The pattern is about more numbers than there are: those that are near, and not of ones own, are not named."""
    for cases, told in ((None, True), (("2026/1",), False)):
        only(bench, "verify", "custody", cases=cases)
        client = CustodyClient(replace(bench, name=ItemName(Title("2026/1"), Title("E1"))))
        with pytest.raises(EvidenceSyncError) as error:
            client.enter()
        assert (error.value.slug, "2026/11" in (error.value.hint or "")) == ("not-there", told)
        found = answer(bench, VerifyAsk(bytes(32), "2026/1", None, None, all_digests=False), VerdictShown)
        assert found == (VerdictShown if told else "not-there")


def test_a_new_case_is_not_said_to_be_like_one_that_one_may_not_know(bench: Bench) -> None:
    for cases, alike in ((None, ["2026/12"]), (("2026-12",), [])):
        only(bench, "acquire", cases=cases)
        reader = HostileReader(bench)
        reader.enter(reader.claim_to_read())
        reader.send(RoomAsk("2026-12", "E1"))
        assert reader.hear(RoomShown).alike.cases == alike
        reader.link.close()
        assert alike_for_a_push(replace(bench, name=ItemName(Title("2026-12"), Title("E1")))) == alike


def alike_for_a_push(bench: Bench) -> list[str]:
    """The cases that a new item is said to be like, before anything of it is sent."""
    client, told = HostileClient(bench), list[str]()
    claim = client.claim(client.hello(versions=[ASKING_VERSION]))
    client.send(Patience(60_000, 0, 0), client.begin(claim))
    while not isinstance(message := client.hear(Message), Ready):
        told += message.cases if isinstance(message, Alike) else []
    client.hang_up()
    return told


def test_all_of_a_vault_is_verified_only_for_who_may_verify_in_every_case(bench: Bench) -> None:
    ask = VerifyAsk(bytes(32), None, None, None, all_digests=False)
    only(bench, "verify", cases=("2026/1?",))
    assert answer(bench, ask, VerdictShown) == "untrusted-signer"
    only(bench, "verify")
    assert answer(bench, ask, VerdictShown) is VerdictShown


def test_a_role_that_ended_an_hour_ago_opens_nothing(bench: Bench) -> None:
    today = time.time_ns() // DAY_NS * DAY_NS
    day = time.strftime("%Y-%m-%d", time.gmtime((today - 1) // 10**9))
    bench.vault.trust.change(bench.signer.public_key, make_grant(USUAL.may, None, day))
    trust = bench.vault.load_trust()
    trust.check_role(bench.signer.public_key, ("acquire",), "2026/11", today - 1)
    for role in USUAL.may:
        with pytest.raises(NotAllowedError):
            trust.check_role(bench.signer.public_key, (role,), "2026/11", today + DAY_NS // 24)
    with pytest.raises(NotAllowedError):
        bench.push()
    assert answer(bench, question(MINE, "documents"), DocumentBatch) == "untrusted-signer"


def test_a_role_that_is_taken_away_ends_what_goes_on(bench: Bench) -> None:
    """The next question is refused, and so is the end of a push."""
    clock = [time.time_ns()]
    rights = Rights(bench.vault, bench.signer.public_key, lambda: clock[0])
    rights.require("read", "2026/11")
    only(bench, "verify")
    clock[0] += 10**9
    with pytest.raises(NotAllowedError):
        rights.require("read", "2026/11")
    rights.require("verify", "2026/11")
    bench.vault.trust.retire(bench.signer.public_key)
    clock[0] += 10 * 10**9
    with pytest.raises(EvidenceSyncError):
        rights.require("verify", "2026/11")


def test_a_role_that_is_taken_away_while_evidence_travels_publishes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evidencesync.ingest.session import IngestSession

    conclude = IngestSession._conclude

    def overtaken(session: IngestSession, *given: object) -> object:
        only(bench, "read", "custody", "verify")
        return conclude(session, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(IngestSession, "_conclude", overtaken)
    with pytest.raises(NotAllowedError):
        bench.push()
    assert bench.acquisitions() == ["0001"]


def test_a_refusal_is_told_by_its_own_name_to_who_knows_it() -> None:
    error = NotAllowedError("ana may read, and not acquire")
    assert [failure_of(error, version).slug for version in (None, 1, ASKING_VERSION, ROLES_VERSION)] == [
        "untrusted-signer",
        "untrusted-signer",
        "untrusted-signer",
        "not-allowed",
    ]
    assert isinstance(failure_of(error, ROLES_VERSION), Failure)


def test_a_refused_push_leaves_no_folder_behind(bench: Bench) -> None:
    only(bench, "acquire", cases=("2026/11",))
    before = sorted(os.listdir(bench.vault.layout.cases))
    with pytest.raises(NotAllowedError):
        replace(bench, name=ItemName(Title("2030"), Title("E1"))).push()
    assert sorted(os.listdir(bench.vault.layout.cases)) == before
