"""The shape of the package, as figures: `make shape`. What a change makes of them is seen by running it before and after.

A room is a package. A module is of a room's own if all that import it lie in that room.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "evidencesync"
ROOT: Final = Path(__file__).parents[1] / PACKAGE
LONG_FUNCTION: Final = 50
LONG_MODULE: Final = 400
SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method, and how many lines it has with its docstring."""

    name: str
    lines: int


@dataclass(frozen=True, slots=True)
class Module:
    """One file: how it is made up, and what it imports of the package, at its top or in a function."""

    name: str
    lines: int
    import_lines: int
    comment_lines: int
    functions: tuple[Function, ...]
    imports: frozenset[str]

    @property
    def room(self) -> str:
        """The package that it lies in."""
        return self.name.rpartition(".")[0]


def read_modules(root: Path = ROOT) -> dict[str, Module]:
    """All modules below a package's folder that have any code, by name. Raises SyntaxError."""
    files = {_name(root, path): path for path in sorted(root.rglob("*.py"))}
    modules = (_read(name, path, files.keys()) for name, path in files.items())
    return {module.name: module for module in modules if module.functions or module.imports or module.lines > 1}


def importers(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Who imports a module."""
    found: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        for name in module.imports & modules.keys():
            found[name].add(module.name)
    return found


def with_one_importer(modules: dict[str, Module]) -> list[str]:
    """Modules that one other alone imports, of the same room: perhaps the two are one."""
    by = importers(modules)
    return [name for name, users in by.items() if len(users) == 1 and modules[next(iter(users))].room == modules[name].room]


def _name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(name: str, path: Path, known: object) -> Module:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    lines = text.splitlines()
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return Module(
        name,
        len(lines),
        sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in statements),
        sum(line.lstrip().startswith("#") for line in lines),
        tuple(_functions(tree)),
        frozenset(target for node in statements for target in _targets(node, known) if target != name),
    )


def _functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, (node.end_lineno or node.lineno) - node.lineno + 1)


def _targets(node: ast.Import | ast.ImportFrom, known: object) -> Iterator[str]:
    """The modules that a statement imports, where a package's name stands for what is taken out of it."""
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif node.module is not None:
        for one in node.names:
            inner = f"{node.module}.{one.name}"
            yield inner if inner in known else node.module  # type: ignore[operator]


def _rooms(modules: dict[str, Module]) -> Iterator[str]:
    rooms: dict[str, list[Module]] = defaultdict(list)
    for module in modules.values():
        rooms[module.room or module.name].append(module)
    yield f"{'room':36} {'modules':>8} {'lines':>8}"
    for room, inside in sorted(rooms.items()):
        yield f"{room:36} {len(inside):8} {sum(module.lines for module in inside):8}"


def _figures(modules: dict[str, Module]) -> Iterator[str]:
    lengths = sorted(module.lines for module in modules.values())
    total = sum(lengths)
    imported, comments = (sum(getattr(one, name) for one in modules.values()) for name in ("import_lines", "comment_lines"))
    functions = [(one.lines, f"{module.name}.{one.name}") for module in modules.values() for one in module.functions]
    longest = sorted((module.lines, module.name) for module in modules.values())[::-1]
    yield f"modules                       {len(modules)}"
    yield f"lines                         {total}"
    p90 = lengths[len(lengths) * 9 // 10]
    yield f"  of a module                 median {statistics.median(lengths):.0f}, p90 {p90}, max {lengths[-1]}"
    yield f"  of imports                  {100 * imported / total:.1f} %"
    yield f"  of comments                 {100 * comments / total:.1f} %"
    yield f"one importer, in its room     {len(with_one_importer(modules))}"
    yield f"functions over {LONG_FUNCTION} lines       {sum(lines > LONG_FUNCTION for lines, _ in functions)} of {len(functions)}"
    yield from (f"  {lines:4} {name}" for lines, name in sorted(functions)[: -SHOWN - 1 : -1])
    yield f"modules over {LONG_MODULE} lines        {sum(length > LONG_MODULE for length in lengths)}"
    yield from (f"  {lines:4} {name}" for lines, name in longest[:SHOWN])


def main() -> None:
    """Prints the table."""
    modules = read_modules()
    sys.stdout.write("\n".join([*_rooms(modules), "", *_figures(modules), ""]))


if __name__ == "__main__":
    main()
