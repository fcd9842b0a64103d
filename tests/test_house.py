"""The rules of the house: its rooms only shrink, and none leads back to itself."""

import ast
import functools
import re
from collections import Counter, defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
# The site, where it was built, holds the tutorials' scripts.
SITE = SOURCE / "opsin" / "site"
FILES = sorted(path for path in (SOURCE / "opsin").rglob("*.py") if SITE not in path.parents)

# Most lines of each room, docstrings and blank lines included. A row only falls; where lines move
# between rooms, one row rises by as much as another falls.
MOST_LINES = {
    "backbones": 1771,
    "benchmarks and scripts": 8526,
    "classical": 1402,
    "cli": 2736,
    "commands": 10930,
    "core": 4356,
    "data": 7298,
    "evaluation": 1974,
    "hub": 382,
    "importing": 2668,
    "inspection": 2629,
    "labelling": 1826,
    "models": 1283,
    "onnx_files": 1597,
    "opsin": 504,
    "other text in src": 3701,
    "report": 3205,
    "runtime": 1519,
    "server": 2909,
    "stores": 412,
    "studio": 4928,
    "studio/pages, studio/ui": 6391,
    "tests": 43545,
    "trackers": 473,
    "training": 2112,
    "web": 838,
}


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    if parts[0] != "src":
        return "tests" if parts[0] == "tests" else "benchmarks and scripts"
    if parts[2:-1][:1] == ("studio",) and parts[3] in ("pages", "ui"):
        return "studio/pages, studio/ui"
    return parts[2] if len(parts) > 3 else "opsin"


def test_a_room_only_shrinks() -> None:
    files = [
        *FILES,
        *(
            file
            for tree in ("tests", "benchmarks", "scripts")
            for file in (ROOT / tree).rglob("*.py")
        ),
    ]
    lines: Counter[str] = Counter()
    for file in files:
        lines[room_of(file)] += len(file.read_text(encoding="utf-8").splitlines())
    for file in (SOURCE / "opsin").rglob("*.*"):
        if file.suffix in (".html", ".toml", ".js", ".css") and SITE not in file.parents:
            lines["other text in src"] += len(file.read_text(encoding="utf-8").splitlines())
    grown = {
        room: f"{found} lines, {MOST_LINES.get(room, 0)} at most"
        for room, found in lines.items()
        if found > MOST_LINES.get(room, 0)
    }
    assert grown == {}


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    return {module_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


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
    assert list(found) == ["opsin.core.platform"], found


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


def test_only_tables_keep_their_own_format() -> None:
    """Lines that a formatter would break are saved by nothing but a constant's rows."""
    found = []
    for file in FILES:
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = {
            line
            for node in modules()[module_of(file)].body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for line in range(node.lineno, (node.end_lineno or 0) + 1)
        }
        skips = [number for number, line in enumerate(lines, 1) if line.endswith("# fmt: skip")]
        found += [f"{file.name}:{number}" for number in skips if number not in kept]
    assert found == []


def test_what_a_dictionary_holds_is_said_by_a_type() -> None:
    untyped = re.compile(r"dict\[str, Any\]")
    found = {
        module_of(file): count
        for file in FILES
        if (count := len(untyped.findall(file.read_text(encoding="utf-8"))))
    }
    assert sum(found.values()) <= 40, found
    assert not [module for module in found if module.startswith("opsin.core.artifacts")]
