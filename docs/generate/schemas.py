"""`python -m docs.generate.schemas DIR` writes the JSON Schemas of documents and outputs.

They are generated from the types that read and write the documents (draft 2020-12). A test fails when the committed files
say something else than the code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from evidencesync.cli.catalog import FilesOutput
from evidencesync.cli.comparison_outputs import CompareOutput, DiffOutput
from evidencesync.cli.completion_outputs import CompletionOutput
from evidencesync.cli.custody_outputs import (
    CustodyAppendOutput,
    CustodyShowOutput,
    ForgetHeadOutput,
    ReceiptsCheckOutput,
    ReceiptsListOutput,
    RecordedVerdict,
    TimestampOutput,
    TimestampRequestOutput,
    TimestampShowOutput,
)
from evidencesync.cli.dry_run_output import DryRunOutput
from evidencesync.cli.file_outputs import ExportOutput, ReportOutput, RestoreOutput
from evidencesync.cli.outputs import (
    CleanOutput,
    ErrorOutput,
    HostTrustOutput,
    InitOutput,
    ListOutput,
    PushOutput,
    ReindexOutput,
    ServeOutput,
    ShowOutput,
    TrustOutput,
    UnchangedOutput,
    VaultWriterOutput,
)
from evidencesync.cli.settings_outputs import SettingsEditOutput, SettingsOutput, SettingsPathOutput
from evidencesync.cli.watch_events import WatchOutput
from evidencesync.connection.event_log import LogEvent
from evidencesync.custody.documents import CustodyRecord, ManifestFooter, ManifestHeader, Receipt
from evidencesync.custody.roles import Roles
from evidencesync.custody.trust_requests import TrustRequest
from evidencesync.evidence.entry import Continuation, Entry
from evidencesync.localstate.heads import SeenHead
from evidencesync.localstate.watched import WatchedSource
from evidencesync.report.document import Report
from evidencesync.verify.findings import FarVerdict, Verdict
from evidencesync.verify.vault_verdict import VaultVerdict

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "#/$defs/{name}"

SCHEMAS: Final[Mapping[str, tuple[str, tuple[type[msgspec.Struct], ...]]]] = MappingProxyType(
    {
        "manifest-line": ("One line of manifest.jsonl", (ManifestHeader, Entry, Continuation, ManifestFooter)),
        "receipt": ("receipt.json", (Receipt,)),
        "custody-record": ("A custody record", (CustodyRecord,)),
        "trust-request": ("A signed request to change trust, as the record of the change keeps it", (TrustRequest,)),
        "roles": ("roles.json: what each trusted key may do", (Roles,)),
        "error-output": ("What every command prints with --json when it fails", (ErrorOutput,)),
        "init-output": ("evidencesync init --json", (InitOutput,)),
        "trust-output": (
            "evidencesync trust add, change, list, retire, revoke, two-person, consent, withdraw --json",
            (TrustOutput,),
        ),
        "vault-writer-output": ("evidencesync vault writer --json", (VaultWriterOutput,)),
        "host-trust-output": ("evidencesync host trust --json", (HostTrustOutput,)),
        "settings-show-output": ("evidencesync settings show --json", (SettingsOutput,)),
        "completion-output": ("evidencesync completion show --json", (CompletionOutput,)),
        "settings-path-output": ("evidencesync settings path --json", (SettingsPathOutput,)),
        "settings-edit-output": ("evidencesync settings edit --json", (SettingsEditOutput,)),
        "push-output": ("evidencesync push --json", (PushOutput, UnchangedOutput)),
        "pull-output": ("evidencesync pull --json", (PushOutput, UnchangedOutput)),
        "push-dry-run-output": ("evidencesync push --dry-run --json", (DryRunOutput,)),
        "pull-dry-run-output": ("evidencesync pull --dry-run --json", (DryRunOutput,)),
        "watch-output": ("evidencesync watch --json", (WatchOutput,)),
        "serve-output": ("evidencesync serve --listen --json", (ServeOutput,)),
        "vault-verdict": ("The verdict of a vault on itself, for who asked from afar", (VaultVerdict,)),
        "verify-output": ("evidencesync verify --json", (Verdict, FarVerdict)),
        "verify-record-output": ("evidencesync verify --record --json", (RecordedVerdict,)),
        "compare-output": ("evidencesync compare --json", (CompareOutput,)),
        "export-output": ("evidencesync export --json", (ExportOutput, Verdict)),
        "timestamp-request-output": ("evidencesync timestamp request --json", (TimestampRequestOutput,)),
        "timestamp-output": ("evidencesync timestamp attach, fetch --json", (TimestampOutput,)),
        "timestamp-show-output": ("evidencesync timestamp show --json", (TimestampShowOutput,)),
        "log-event": ("One line of a log for machines (--log)", (LogEvent,)),
        "list-output": ("evidencesync list --json", (ListOutput,)),
        "show-output": ("evidencesync show --json", (ShowOutput,)),
        "report": ("An audit report as JSON (evidencesync report -o FILE.json)", (Report,)),
        "report-output": ("evidencesync report --json", (ReportOutput,)),
        "show-files-output": ("evidencesync show --files --json", (FilesOutput,)),
        "diff-output": ("evidencesync diff --json", (DiffOutput,)),
        "restore-output": ("evidencesync restore --json", (RestoreOutput,)),
        "custody-show-output": ("evidencesync custody show --json", (CustodyShowOutput,)),
        "custody-append-output": (
            "evidencesync custody note, correct, hand-over, accept, seal, consent, withdraw --json",
            (CustodyAppendOutput,),
        ),
        "receipts-list-output": ("evidencesync receipts list --json", (ReceiptsListOutput,)),
        "receipts-check-output": ("evidencesync receipts check --json", (ReceiptsCheckOutput,)),
        "receipts-forget-head-output": ("evidencesync receipts forget-head --json", (ForgetHeadOutput,)),
        "remembered-head": ("heads/VAULT_ID/*.json in a state folder", (SeenHead,)),
        "watched-source": ("watched/*.json in a state folder", (WatchedSource,)),
        "reindex-output": ("evidencesync reindex --json", (ReindexOutput,)),
        "clean-output": ("evidencesync clean --json", (CleanOutput,)),
    }
)


def schema_text(name: str) -> str:
    """One schema as the text of its file: sorted keys, two spaces, a newline at its end."""
    title, types = SCHEMAS[name]
    references, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema: dict[str, Any] = {"$schema": _DIALECT, "title": title, "$defs": components}
    schema |= references[0] if len(references) == 1 else {"anyOf": list(references)}
    for component in components.values():  # Python 3.13 takes a docstring's indentation away, earlier ones do not
        component["description"] = " ".join(component["description"].split())
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Writes every schema as NAME.json, and removes files of schemas that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        if stale.stem not in SCHEMAS:
            stale.unlink()
    for name in SCHEMAS:
        (folder / f"{name}.json").write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.generate.schemas DIR")
    write_schemas(Path(sys.argv[1]))
