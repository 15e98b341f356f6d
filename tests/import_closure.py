"""Which files of ours a module imports, found in its text: what `dvc.yaml` and the layers are compared with."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"


@functools.cache
def file_of(module: str) -> Path | None:
    """The file of a module of ours, or None if there is no such module."""
    base = SOURCES.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def names_imported_by(path: Path) -> set[str]:
    """All that a file's text imports anywhere in it, by full names, modules and what is taken from them alike.

    Not what only checkers of types import: the package itself names all of its public interface so.
    """
    names = set()
    for node in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Gives a node and all below it, without the bodies of `if TYPE_CHECKING`."""
    yield node
    is_for_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for below in node.orelse if is_for_checkers else ast.iter_child_nodes(node):
        yield from _walk(below)


@functools.cache
def imports_of(module: str) -> set[str]:
    """The modules of ours that a module's text imports anywhere in it, their parent packages included."""
    path = file_of(module)
    assert path is not None, module
    ours = {name for name in names_imported_by(path) if name.split(".")[0] == "segpipe" and file_of(name)}
    return ours | {parent for name in ours for parent in parents_of(name)}


def parents_of(module: str) -> set[str]:
    """The packages that importing a module imports first."""
    parts = module.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


@functools.cache
def closure_of(module: str) -> set[str]:
    """The module, all it imports, all these import, and so on."""
    found, open_ends = set(), {module} | parents_of(module)
    while open_ends:
        name = open_ends.pop()
        found.add(name)
        open_ends |= imports_of(name) - found
    return found
