"""The tools of these tests are sound: what they send is taken where nothing is wrong with it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from evidencesync.evidence.digest import blake3_of
from evidencesync.protocol.messages import Close, Open, Published, SegmentData
from tests.support.bench_of_evidence import make_bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of


def test_a_session_made_by_hand_is_published_when_nothing_is_wrong_with_it(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    client = HostileClient(bench)
    client.shake_hands()
    large = b"\1" * 200_000
    client.send(Open(0, len(large)), SegmentData(0, len(large).to_bytes(4, "little"), len(large)))
    client.send_data(large)
    client.send(Close(0, len(large), blake3_of(large)))
    manifest = client.send_manifest([ROOT, entry_of(b"big", content=large), entry_of(b"small", content=b"x")], [b"x"])
    client.send(client.finish(manifest))
    assert client.hear(Published).acquisition == 1
    assert bench.acquisitions() == ["0001"]
    assert (bench.acquisition(1) / "data" / "big").read_bytes() == large
    assert (bench.acquisition(1) / "manifest.jsonl").read_bytes() == manifest


def test_frames_after_the_end_change_nothing_of_what_is_published(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"small", content=b"x")], [b"x"])
    client.send(client.finish(manifest), Open(0, 5), client.finish(b"another"))
    client.send_page(3, msgspec.json.encode(ROOT) + b"\n")
    client.hear(Published)
    assert bench.acquisitions() == ["0001"]
    assert (bench.acquisition(1) / "manifest.jsonl").read_bytes() == manifest
    assert bench.push().acquisition == 2
