"""What a program loads before it works: a tiny push is mostly that. Modules and classes are counted, never times.

A dataclass takes some twenty times as long to define as a msgspec struct: Python compiles its methods at each start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evidencesync.custody import documents
from evidencesync.evidence import entry
from evidencesync.protocol import document_messages, evidence_messages, messages, pull_messages, trust_messages, verdict_messages

_REPOSITORY = Path(__file__).parents[2]
_COUNTS = """
import sys
import evidencesync.cli.app
{}
own = [module for name, module in sys.modules.items() if name.startswith("evidencesync")]
here = {{one for module in own for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__}}
print(len([name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names]))
print(len([one for one in here if isinstance(one, type) and hasattr(one, "__dataclass_fields__")]))
"""


def loaded(modules: str) -> tuple[int, int]:
    """How many modules these bring along that are not Python's own, and how many dataclasses of ours."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    script = _COUNTS.format(f"import {modules}")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**plain, "PYTHONPATH": str(_REPOSITORY)}
    )
    count, dataclasses = map(int, done.stdout.split())
    return count, dataclasses


_PUSH = "evidencesync.cli.push_command, evidencesync.acquire.connect"
_SERVE = "evidencesync.cli.guard, evidencesync.serve.serving"


@pytest.mark.parametrize(
    ("modules", "most", "most_dataclasses"),
    [
        pytest.param(_PUSH, 123, 22, id="push, before ssh is started"),
        pytest.param(f"{_PUSH}, evidencesync.acquire.push, evidencesync.cli.summary", 265, 24, id="push"),
        pytest.param(_SERVE, 182, 0, id="serve, until it says Welcome"),
        pytest.param(f"{_SERVE}, evidencesync.ingest.session", 212, 0, id="serve"),
    ],
)
def test_no_more_is_loaded_than_is_needed(modules: str, most: int, most_dataclasses: int) -> None:
    count, dataclasses = loaded(modules)
    assert count <= most
    assert dataclasses <= most_dataclasses


@pytest.mark.parametrize(
    "module", [documents, entry, messages, document_messages, evidence_messages, verdict_messages, pull_messages, trust_messages]
)
def test_fields_that_are_decoded_are_not_annotated_in_texts(module: ModuleType) -> None:
    """msgspec compiles each text when a decoder is made: a twentieth of the start of a push."""
    structs = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    assert structs
    assert not [one for one in structs for annotation in one.__annotations__.values() if isinstance(annotation, str)]
