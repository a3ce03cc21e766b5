"""`verify` of a vault on another machine says what it says where the vault lies, with a key that may do nothing but serve."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.exit_codes import ExitCode
from tests.integration.cli_program import ITEM, Done, Lab, schema_errors
from tests.integration.test_custody import _far
from tests.integration.test_resume import pids_of
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    made.write("image.dd", bytes(range(256)) * 2000)
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


def acquired(lab: Lab) -> Path:
    return next((lab.folder / "vault").glob("cases/*/*/acquisitions/0001"))


def damaged(lab: Lab) -> None:
    file = acquired(lab) / "data" / "image.dd"
    content = bytearray(file.read_bytes())
    content[300_000] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    file.chmod(0o444)


def lacking(lab: Lab) -> None:
    (acquired(lab) / "data").chmod(0o755)
    (acquired(lab) / "data" / "notes.txt").unlink()
    (acquired(lab) / "data").chmod(0o555)


def unlisted(lab: Lab) -> None:
    (acquired(lab) / "receipt.json").unlink()


def empty(lab: Lab) -> None:
    shutil.rmtree(acquired(lab).parents[2])


def rolled_back(lab: Lab) -> None:
    shutil.copytree(lab.folder / "vault", lab.folder / "older", symlinks=True)
    lab.write("notes.txt", b"again")
    assert lab.push().code == 0
    shutil.rmtree(lab.folder / "vault")
    (lab.folder / "older").rename(lab.folder / "vault")


def whole(_lab: Lab) -> None:
    return


def found(done: Done) -> dict[str, object]:
    """A verdict, without what is another one's: its time, who made it, and whether the memory of a machine came first or last."""
    kept = {name: value for name, value in done.document.items() if name not in ("checked_at", "by_vault")}
    return kept | {"findings": sorted(json.dumps(one) for one in done.document["findings"])}


@pytest.mark.parametrize("forced", [False, True], ids=["by command", "forced command"])
@pytest.mark.parametrize("spoil", [whole, damaged, lacking, unlisted, empty, rolled_back])
def test_the_verdict_from_afar_is_the_one_that_is_found_there(
    lab: Lab, sshd: Sshd, spoil: Callable[[Lab], None], forced: bool
) -> None:
    spoil(lab)
    far, options = _far(lab, sshd, forced=forced)
    here = lab.run("verify", "vault", "--json")
    afar = lab.run("verify", far, "--json", "--sign-key", "ana", *options)
    assert afar.code == here.code, afar
    assert schema_errors(afar.document, "verify-output") == []
    if spoil is not rolled_back:
        assert found(afar) == found(here)
    slugs = [{one["slug"] for one in done.document["findings"] if one["severity"] == "error"} for done in (here, afar)]
    assert slugs[0] == slugs[1]


def test_people_are_told_who_has_verified_and_then_what_is_said_there(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=False)
    part = (*ITEM, "--acquisition", "1", "--all-digests")
    here = lab.run("verify", "vault", *part)
    afar = lab.run("verify", far, *part, "--sign-key", "ana", *options)
    first, second, *more, rest = afar.out.split("\n", 4)
    assert first == f"verified by the vault at {far}"
    assert second.startswith("  with its own key SHA256:")
    assert "its documents and evidence were not" in " ".join(line.strip() for line in more)
    assert all(len(line) <= 100 for line in (second, *more))  # as wide as what is no terminal
    assert (afar.code, rest) == (0, here.out)


def test_the_signed_verdict_is_kept_and_verified_by_ssh_keygen(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=False)
    done = lab.run("verify", far, "-o", "verdict.json", "--json", "--sign-key", "ana", *options)
    assert done.code == 0, done
    kept = json.loads((lab.folder / "verdict.json").read_text())
    assert schema_errors(kept, "vault-verdict") == []
    assert kept["verdict"] == {name: value for name, value in done.document.items() if name != "by_vault"}
    (lab.folder / "signers").write_text(f"vault {(lab.folder / 'vault' / 'vault_key.pub').read_text()}")
    checked = subprocess.run(
        "ssh-keygen -Y verify -f signers -I vault -n verdict@evidencesync -s verdict.json.sig < verdict.json",
        shell=True,
        cwd=lab.folder,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked
    again = lab.run("verify", far, "-o", "verdict.json", "--sign-key", "ana", *options)
    assert (again.code, "nothing is ever replaced" in again.err) == (2, True)
    assert lab.run("verify", "vault", "-o", "other.json").code == 2


def test_who_may_not_record_is_told_before_anything_is_verified(lab: Lab, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not hours later: what the vault reads could not be recorded. An older vault tells it at the end, as it did."""
    far, options = _far(lab, sshd, forced=True)
    lab.make_key("ben")
    words = ("--principal", "ben@lab", "--may", "read,verify")
    assert lab.run("trust", "add", "vault", "ben.pub", *words).code == 0
    for fetch in ((), ("--fetch",)):
        done = lab.run("verify", far, "--record", *fetch, "--json", "--sign-key", "ben", *options)
        assert (done.code, done.error["slug"]) == (32, "not-allowed"), done
        assert done.error["hint"].startswith("Without --record it is only checked. ") or fetch
    assert lab.run("verify", far, "--json", "--sign-key", "ben", *options).code == 0


def test_a_verdict_from_afar_is_recorded_over_the_same_way(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    done = lab.run("verify", far, "--record", "--json", "--sign-key", "ana", *options)
    assert done.code == 0, done
    assert schema_errors(done.document, "verify-record-output") == []
    assert [one["record"] for one in done.document["recorded"]] == [3]
    record = json.loads(next((lab.folder / "vault").glob("cases/*/*/custody/0003-verified.json")).read_text())
    assert record["details"]["verdict"] == "pass"
    assert record["details"]["checked_by"].startswith("the vault itself, evidencesync ")
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize(
    "option", [("--trusted", "signers"), ("--expect-head", "0" * 64), ("--require-timestamp",), ("--tsa-root", "root.pem")]
)
def test_what_does_not_take_the_vault_s_word_is_not_left_to_it(lab: Lab, option: tuple[str, ...]) -> None:
    refused = lab.run("verify", "nobody@127.0.0.1:/vault", *option)
    assert (refused.code, f"{option[0]} is for whoever does not take the vault's word" in refused.err) == (2, True)
    assert "hint: With --fetch " in refused.err


def test_a_key_that_the_vault_does_not_know_gets_no_verdict(lab: Lab, sshd: Sshd) -> None:
    lab.make_key("eve")
    far, options = _far(lab, sshd, forced=True)
    done = lab.run("verify", far, "--sign-key", "eve", *options)
    assert (done.code, done.out) == (ExitCode.SIGNATURE, "")


def test_a_reader_that_is_killed_leaves_nothing_at_work(lab: Lab, sshd: Sshd) -> None:
    with (lab.folder / "evidence" / "large").open("wb") as large:
        large.truncate(1 << 28)
    assert lab.push().code == 0
    far, options = _far(lab, sshd, forced=True)
    process = lab.start("verify", far, "--all-digests", "--sign-key", "ana", *options)
    wait_until(lambda: pids_of(lab, "serve --vault"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not pids_of(lab, "serve --vault"))
