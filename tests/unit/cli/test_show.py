"""`show` for people: the source's facts, and what was typed."""

from __future__ import annotations

from pathlib import Path

import msgspec

from evidencesync.cli.catalog import show_output
from evidencesync.cli.catalog_commands import _show_lines
from tests.support.bench_of_evidence import make_bench


def test_the_facts_of_a_disk_are_shown_and_the_command_can_be_typed_again(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push(command_line=["evidencesync", "push", "/dev/sda", "--note", "it's sealed; whole"])
    output = show_output(bench.vault.item(bench.name), None)
    source = msgspec.structs.replace(output.header.source, device={"serial": "S4X", "size": "4096", "logical_sector": "512"})
    header = msgspec.structs.replace(output.header, source=source)
    lines = list(_show_lines(msgspec.structs.replace(output, header=header)))
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("  device")] == [
        "serial number: S4X",
        "size: 4,096 bytes (4.1 kB)",
        "sector size: 512 bytes",
    ]
    assert """  command       evidencesync push /dev/sda --note 'it'"'"'s sealed; whole'""" in lines
