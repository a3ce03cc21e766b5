"""A vault worth a report: several acquisitions, odd and hostile names, gaps, filters, a note, an image that changed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

from evidencesync.source.filters import FilterRules
from tests.support.bench_of_evidence import Bench, make_bench

# Each tries to be more than a name: in HTML, in scripts, in templates, in typst, on a terminal, or to hide what it is.
HOSTILE_NAMES: Final = (
    b"<script>document.title='owned'<",
    b"<img src=x onerror=alert(1)>.jpg",
    b'"><svg onload=alert(2)>',
    b"{{ 7*7 }}{% raw %}.txt",
    b'#eval("1+1") *bold* $x^2$ @ref <label>.typ',
    b'#import "x.typ": * \\ `raw`',
    b"]] #panic() [[.txt",
    b"'; alert(3); '",
    b"\x1b[31mred\x1b[0m.txt",
    b"two\nlines.txt",
    "invoice-\u202egpj.exe".encode(),
    b"not-utf8-\xff\xfe.txt",
    "Überweisung – 送金.txt".encode(),
    "تقرير.pdf".encode(),
    "קובץ 12.doc".encode(),
    ("ب" * 100).encode(),
    "😀 emoji 👩‍👩‍👧.png".encode(),
    "cafe\u0301 decomposed.txt".encode(),
    "हिन्दी ไทย 한국어.txt".encode(),
    b"back\\slash\\u{41}.txt",
    b"-rf",
    b"=SUM(A1)",
    b"&lt;already escaped&gt;",
    b"</script><script>alert(4)<",
    b"name " * 51,
)


def make_reported_vault(folder: Path) -> Bench:
    """Three acquisitions of a folder; the second is of a changed disk image, the third leaves something out."""
    bench = make_bench(folder)
    source = random.Random(17)
    image = bytearray(source.randbytes(6 << 20) + bytes(4 << 20) + source.randbytes(2 << 20))
    (bench.source / "disk.img").write_bytes(image)
    odd = os.fsencode(bench.source / "odd names")
    Path(os.fsdecode(odd)).mkdir()
    for name in HOSTILE_NAMES:
        with open(odd + b"/" + name.replace(b"/", b"_"), "wb") as file:
            file.write(b"The name is the interesting part.\n")
    logs = bench.source / "logs"
    logs.mkdir()
    for number in range(40):
        (logs / f"day-{number:02}.log").write_bytes(source.randbytes(2000 + 100 * number))
    (bench.source / "link").symlink_to("/no/such/place")
    bench.push(notes=["Seized at the reception; the seal was intact.", "<b>not bold</b>"])
    image[1_000_000:1_200_000] = source.randbytes(200_000)
    image[11_000_000:11_000_010] = b"0123456789"
    (bench.source / "disk.img").write_bytes(image)
    (logs / "day-00.log").unlink()
    (logs / "day-40.log").write_bytes(source.randbytes(3000))
    bench.push()
    bench.push(rules=FilterRules.from_patterns(["*.tmp", "logs/day-1*"]))
    return bench


def damage(bench: Bench, number: int, path: str, offset: int) -> None:
    """Flips a bit of a stored file."""
    file = bench.acquisition(number) / "data" / path
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))
    file.chmod(0o444)
