"""What is done in a row: which sources the destination knows already, which are sent then, and who makes them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import workloads

SEED: Final = "evidencesync bench 1"
FULL_SIZE_A: Final = 2 << 30


@dataclass(frozen=True)
class Sizes:
    """Bytes of image A and files of B; everything else is a fixed share of one of them."""

    image: int
    files: int


@dataclass(frozen=True)
class Step:
    """One source that is sent, and under which name."""

    source: Path
    item: str = "bench-1"
    case: str = "bench"


@dataclass(frozen=True)
class History:
    """`known` was sent earlier and is not measured; `sent` is."""

    known: tuple[Step, ...]
    sent: tuple[Step, ...]


class Workshop:
    """Makes sources. Base workloads are kept for later rows; what `scratch` gives goes after the row."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.sizes = sizes
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._scratch: list[Path] = []

    def image(self, share: float = 1) -> Path:
        """The folder with image A, or one of `share` times its size."""
        size = max(int(self.sizes.image * share), workloads.MIB)
        return self._base(f"image-{share:g}", lambda folder: workloads.make_image(folder, size, SEED))

    def files(self, share: float = 1) -> Path:
        """The folder with the files of B, or `share` times as many."""
        count = max(int(self.sizes.files * share), 10)
        return self._base(f"files-{share:g}", lambda folder: workloads.make_files(folder, count, SEED))

    def edits(self, per_full_image: int) -> int:
        """So many edits, scaled as A is, so that the share that changes stays."""
        return max(per_full_image * self.sizes.image // FULL_SIZE_A, 1)

    def scratch(self, name: str) -> Path:
        """A folder that is not there yet, for a variant."""
        path = self._folder / name
        self._scratch.append(path)
        return path

    def clear(self) -> None:
        """Removes the variants."""
        for path in self._scratch:
            shutil.rmtree(path, ignore_errors=True)
        self._scratch.clear()

    def _base(self, name: str, make: Callable[[Path], None]) -> Path:
        folder = self._folder / name
        if not folder.exists():
            say(f"making {name}")
            make(folder)
        return folder


@dataclass(frozen=True)
class Work:
    """How to make a history, and about how many bytes its sources take at most."""

    make: Callable[[Workshop], History]
    space: Callable[[Sizes], int]


def image_space(copies: float) -> Callable[[Sizes], int]:
    """So many times image A."""
    return lambda sizes: int(copies * sizes.image)


def files_space(copies: float) -> Callable[[Sizes], int]:
    """So many times the files of B, with what file systems and vaults add."""
    return lambda sizes: int(copies * sizes.files * (workloads.MEAN_FILE_BYTES + 6000))


def image_work(variant: str = "same", *, known: bool = False, share: float = 1, edits: int = 1000) -> Work:
    """Image A as it is, `edited`, `inserted` or `renamed`; with `known` the destination has the image itself."""

    def make(shop: Workshop) -> History:
        base = shop.image(share)
        source, image = base, base / workloads.IMAGE_NAME
        if variant != "same":
            source = shop.scratch(f"image-{variant}")
        if variant == "edited":
            workloads.make_edited(image, source, shop.edits(edits), SEED)
        elif variant == "inserted":
            workloads.make_inserted(image, source)
        elif variant == "renamed":
            workloads.make_renamed(image, source)
        return History((Step(base),) if known else (), (Step(source),))

    return Work(make, image_space(2 * share))


def files_work(*, known: int = 0, share: float = 1, count: int | None = None) -> Work:
    """The files of B, new, or unchanged since so many acquisitions; or so many of them, at any scale."""

    def make(shop: Workshop) -> History:
        base = shop.files(share if count is None else count / shop.sizes.files)
        return History((Step(base),) * known, (Step(base),))

    return Work(make, files_space(share))


def say(text: str) -> None:
    """What goes on, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
