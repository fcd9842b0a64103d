"""The public names are those that are visible, and importing them is quick and light."""

import ast
import json
import os
import sys
from pathlib import Path

import pytest

import opsin
from opsin.core import errors
from tests.processes import python

# Loading any of these on the way to a prediction would make the runtime half heavy.
HEAVY = ("torch", "onnx", "onnxscript", "matplotlib", "sklearn", "scipy", "jinja2", "pandas",
         "fastapi", "starlette", "uvicorn")  # fmt: skip


def loaded_by(code: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """Return which heavy packages a fresh process has loaded after running some code."""
    tail = f"\nimport sys, json; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = python("-W", "error", "-c", code + tail)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_all_is_sorted_and_what_is_visible() -> None:
    assert opsin.__all__ == sorted(opsin.__all__)
    assert dir(opsin) == opsin.__all__
    assert all(getattr(opsin, name) is not None for name in opsin.__all__)
    assert {name for name in vars(errors) if name.endswith("Error")} <= set(opsin.__all__)
    exported = {name for name in vars(opsin) if not name.startswith("_")}
    modules = {name for name in exported if isinstance(vars(opsin)[name], type(sys))}
    assert exported - modules - {"TYPE_CHECKING", "Any", "annotations"} <= set(opsin.__all__)


def test_a_type_checker_sees_every_public_name() -> None:
    """Those that it does not see would stand for anything."""
    tree = ast.parse(Path(opsin.__file__).read_text(encoding="utf-8"))
    (only,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = [
        alias.name for node in only.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted([*seen, "__version__"]) == sorted(opsin.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import opsin.runtime.classifier",
        "import opsin; opsin.Classifier; opsin.load",
        "from opsin.cli import verbs; verbs._application(['--help'])",
        "from opsin.cli import verbs; [verbs._application([verb]) for verb in verbs.VERBS]",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded_by(code) == []


def test_verbs_load_what_answers_and_draws_when_they_need_it() -> None:
    code = "import opsin.cli." + ", opsin.cli.".join(("data", "evaluate", "export", "predict"))
    assert loaded_by(code, ("onnxruntime",)) == []
    assert loaded_by("import opsin.commands.inspect", ("matplotlib",)) == []


def test_a_prediction_loads_nothing_heavy(nearest_mean: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    argv = ["opsin", "predict", str(nearest_mean), str(tmp_path / "a.png")]
    code = (
        f"import sys; sys.argv = {argv!r}\nfrom opsin.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    # Other verbs, sources of other kinds, reports and recipes would take as long as the answer.
    sources = ("opsin.data.sources.rows", "opsin.data.dataset")
    recipes = ("opsin.core.recipe", "opsin.core.artifacts.run_report")
    others = (*sources, *recipes, "opsin.cli.train", "opsin.training")
    assert loaded_by(code, (*HEAVY, *others)) == []


def test_nothing_is_told_to_anybody(tmp_path: Path, nearest_mean: Path) -> None:
    code = f"import opsin; opsin.Classifier({str(nearest_mean)!r})"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    python("-c", code, env=env)
    # ONNX Runtime keeps the number by which it would be known again there.
    assert list(tmp_path.iterdir()) == []
