"""The rules of the house: one name for one thing, and no room that leads back to itself."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# The site, where it was built, holds the tutorials' scripts.
SITE = SOURCE / "opsin" / "site"
FILES = sorted(path for path in (SOURCE / "opsin").rglob("*.py") if SITE not in path.parents)

# A verb is read by `cli`, done by `commands` and shown by the studio; a page may be called after
# what it shows.
SHARED = frozenset({"cli", "commands", "studio.pages"})


def module_of(file: Path) -> str:
    """Return a file's dotted name."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return each module, parsed, by its name."""
    return {module_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def is_shared(module: str) -> bool:
    """Tell whether a module may be called like one of another room: a verb's, or a page's."""
    room = module.removeprefix("opsin.").rpartition(".")[0]
    return any(room == each or room.startswith(each + ".") for each in SHARED)


def test_a_modules_name_occurs_once_but_for_verbs_and_pages() -> None:
    named = defaultdict(list)
    for file in FILES:
        if file.stem not in ("__init__", "__main__") and not is_shared(module_of(file)):
            named[file.stem].append(module_of(file))
    assert {name: found for name, found in named.items() if len(found) > 1} == {}


def test_a_classs_name_occurs_once() -> None:
    named = defaultdict(list)
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                named[node.name].append(module)
    assert {name: found for name, found in named.items() if len(found) > 1} == {}


def imported_by(module: str) -> set[str]:
    """Return the modules of Opsin that a module imports, for its types and later on, too."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules() else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules().keys()


@pytest.mark.parametrize(
    "room", [module_of(file) for file in FILES if file.stem == "__init__"], ids=str
)
def test_imports_within_a_room_go_one_way(room: str) -> None:
    """What lies in a room, files and rooms alike, can be put in an order of imports."""
    depth = room.count(".") + 2
    below = defaultdict(set)
    for module in modules():
        if module.startswith(room + "."):
            here = ".".join(module.split(".")[:depth])
            for other in imported_by(module):
                there = ".".join(other.split(".")[:depth])
                if other.startswith(room + ".") and there != here:
                    below[here].add(there)
    list(TopologicalSorter(below).static_order())  # raises CycleError, with the circle


# What only some systems have. Their one home has the others' way beside it.
_SOME_SYSTEMS = re.compile(
    r"\b(fcntl|msvcrt|_winapi|import resource|killpg|memfd_create|getuid|geteuid|sysconf|setitimer"
    r"|pthread_sigmask|O_NOFOLLOW|O_DIRECTORY|O_NONBLOCK|signal\.SIGKILL|sys\.platform"
    r"|os\.(link|fork|nice|name|sync|setsid|waitpid))\b|/proc/"
)


def test_one_module_knows_the_operating_systems_apart() -> None:
    found = {
        module_of(file): sorted({match.group() for match in _SOME_SYSTEMS.finditer(text)})
        for file in FILES
        if _SOME_SYSTEMS.search(text := file.read_text(encoding="utf-8"))
    }
    assert list(found) == ["opsin.core.operating_system"], found


def test_one_module_names_what_onnx_runtime_computes_on() -> None:
    # What an export writes aside runs without Opsin.
    found = {
        module_of(file)
        for file in FILES
        if "ExecutionProvider" in file.read_text(encoding="utf-8") and "clients" not in file.parts
    }
    assert found == {"opsin.runtime.providers"}


# What it takes to read a function on one screen: its statements, without parameters and docstring.
_LONGEST_BODY = 60


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_a_function_fits_on_a_screen() -> None:
    found = {
        f"{module}.{node.name}": _body_lines(node)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _body_lines(node) > _LONGEST_BODY
    }
    assert found == {}


def test_what_a_dictionary_holds_is_said_by_a_type() -> None:
    untyped = re.compile(r"dict\[str, Any\]")
    found = {
        module_of(file): count
        for file in FILES
        if (count := len(untyped.findall(file.read_text(encoding="utf-8"))))
    }
    assert sum(found.values()) <= 40, found
    assert not [module for module in found if module.startswith("opsin.core.artifacts")]
