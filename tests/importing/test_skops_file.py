"""Files of skops that a stranger might send: each is refused in one line, and nothing is built."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from opsin.importing.skops_to_onnx import convert_estimator
from tests.conftest import a_few, write_zip
from tests.importing.made_skops import (
    Members,
    Node,
    attributes,
    described,
    node,
    npy,
    plain,
    write_skops,
)
from tests.importing.test_hostile_files import cost_of, refusal_of

Change = Callable[[Node, Members], object]
ROWS = np.random.default_rng(0).random((64, 16))
LABELS = np.array(["cat", "dog", "eel", "fox"])[np.arange(64) % 4]
ESTIMATORS = {
    "logistic": LogisticRegression(max_iter=5),
    "forest": RandomForestClassifier(2, random_state=0),
    "neighbours": KNeighborsClassifier(3),
    "machine": SVC(),
    "pipeline": make_pipeline(PCA(4), LogisticRegression(max_iter=5)),
}


@pytest.fixture(scope="module", autouse=True)
def _fitted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few iterations
        for estimator in ESTIMATORS.values():
            estimator.fit(ROWS, LABELS)


def put(name: str, value: Any) -> Change:
    def change(schema: Node, members: Members) -> None:
        given = value if isinstance(value, dict) else described(value, members)
        attributes(schema)[name] = given

    return change


def again(name: str, function: Callable[[Any], Any]) -> Change:
    def change(schema: Node, members: Members) -> None:
        file = attributes(schema)[name]["file"]
        members[file] = npy(function(array(members[file])))

    return change


def array(content: bytes) -> Any:
    return np.load(io.BytesIO(content)).copy()


def tree(schema: Node) -> dict[str, Node]:
    first: Node = attributes(schema)["estimators_"]["content"][0]
    return attributes(attributes(first)["tree_"])


def nodes(of: Callable[[Node], dict[str, Node]], **columns: Any) -> Change:
    def change(schema: Node, members: Members) -> None:
        file = of(schema)["nodes"]["file"]
        found = array(members[file])
        for column, value in columns.items():
            found[column][0] = value
        members[file] = npy(found)

    return change


def renamed(kind: str, module: str) -> Change:
    return lambda schema, _: schema.update(__class__=kind, __module__=module)


def in_itself(schema: Node, _: Members) -> None:
    schema["__id__"] = 7
    attributes(schema)["random_state"] = node("list", "builtins", "ListNode", __id__=7, content=[])


def cut(name: str) -> Change:
    return again(name, lambda values: values[..., :-1])


def objects(schema: Node, members: Members) -> None:
    members[attributes(schema)["coef_"]["file"]] = npy(
        np.array([[print] * 16] * 4, dtype=object), allow_pickle=True
    )


def claimed(schema: Node, members: Members) -> None:
    """Let an array state 2^40 numbers of which none is there."""
    head = npy(np.zeros((4, 16)))
    members[attributes(schema)["coef_"]["file"]] = head.replace(
        b"(4, 16), }" + b" " * 12, b"(1099511627776, 1), }"[:22].ljust(22)
    )


def shared(schema: Node, _: Members) -> None:
    trees = attributes(schema)["estimators_"]["content"]
    trees += [trees[0]] * 100
    attributes(schema)["n_estimators"] = plain(len(trees))


def deep(schema: Node, _: Members) -> None:
    inner = plain(None)
    for _level in range(300):
        inner = node("list", "builtins", "ListNode", content=[inner])
    attributes(schema)["random_state"] = inner


SYSTEM = node("system", "os", "TypeNode")
CALL = {"__reduce__": {"args": plain("touch ran")}, "content": plain(None)}
HOSTILE: dict[str, tuple[str, Change, str]] = {
    "a class that is a function": ("logistic", renamed("system", "os"), r"os\.system in it is no"),
    "a class of somebody's": ("logistic", renamed("Evil", "evil"), r"evil\.Evil in it is no part"),
    "a name with more in it": ("logistic", renamed("a;b", "sklearn"), "no part of scikit-learn"),
    "control characters": ("logistic", renamed("\x1b[31m\n", "\x07"), "no part of scikit-learn"),
    "eval, which is built in": ("logistic", renamed("eval", "builtins"), r"builtins\.eval in it"),
    "a class among types": ("logistic", put("random_state", SYSTEM), r"os\.system in it is no"),
    "a function of a known library": (
        "logistic", put("random_state", node("_execute", "sklearn.utils", "FunctionNode")),
        r"_execute in it is a program \(Function\), which is never run",
    ),
    "a method": (
        "logistic",
        put("random_state", node("ndarray", "numpy", "MethodNode",
                                 content={"func": "tofile", "obj": plain(1)})),
        r"a program \(Method\)",
    ),
    "a call with arguments": (
        "logistic", put("random_state", node("memmap", "numpy", "ConstructorFromReduceNode",
                                             content=plain("/etc/passwd"))),
        r"a program \(ConstructorFromReduce\)",
    ),
    "a part of a function": (
        "logistic", put("random_state", node("int", "builtins", "PartialNode")), "Partial"
    ),
    "an operator": (
        "logistic", put("random_state", node("int", "builtins", "OperatorFuncNode")), "Operator"
    ),
    "an object with a call": (
        "logistic", put("random_state", node("Tree", "sklearn.tree", "ObjectNode", **CALL)),
        r"a program \(a call\)",
    ),
    "an object seen before": (
        "logistic", put("coef_", node("ndarray", "numpy", "CachedNode", __id__=1)), "Cached"
    ),
    "an object without a class": (
        "logistic", put("coef_", {"__loader__": "ObjectNode"}), "without the name of its class"
    ),
    "an object in itself": ("logistic", in_itself, "holds itself"),
    "lists within lists": ("logistic", deep, "its list holds itself"),
    "an estimator that nobody knows": (
        "logistic", renamed("MLPClassifier", "sklearn.neural_network"),
        "MLPClassifier is no classifier that is known.*LogisticRegression",
    ),
    "a step that nobody knows": (
        "pipeline",
        lambda schema, _: attributes(schema)["steps"]["content"][0]["content"][1].update(
            __class__="KernelPCA"),
        "KernelPCA is a step that is not known",
    ),
    "a pipeline without end": (
        "pipeline", lambda schema, _: attributes(schema)["steps"]["content"].extend(
            attributes(schema)["steps"]["content"][:1] * 100), "102 steps"
    ),
    "an array elsewhere": (
        "logistic",
        lambda schema, _: attributes(schema)["coef_"].update(file="../../etc/passwd"),
        "lies elsewhere",
    ),
    "an array that is missing": (
        "logistic", lambda schema, _: attributes(schema)["coef_"].update(file="999.npy"),
        "not as skops writes it",
    ),
    "an array of objects": ("logistic", objects, "objects, which would have to be unpickled"),
    "an array beyond the file": ("logistic", claimed, "another size than it states"),
    "an array that is none": (
        "logistic",
        lambda schema, members: members.update({attributes(schema)["coef_"]["file"]: b"x" * 99}),
        "is none of plain values",
    ),
    "weights of another shape": ("logistic", cut("coef_"), "the shape 4×15, not 4×16"),
    "weights that are no numbers": (
        "logistic", again("coef_", lambda values: values * np.nan), "no numbers"
    ),
    "weights beyond all numbers": (
        "logistic", again("coef_", lambda values: values + 1e300), "no numbers"
    ),
    "weights that are text": ("logistic", again("coef_", lambda v: v.astype(str)), "no numbers"),
    "weights that are an object": ("logistic", put("coef_", plain(1)), "no array of numbers"),
    "as many pixels as nobody has": (
        "logistic", put("n_features_in_", 1 << 40), "n_features_in_ of its LogisticRegression"
    ),
    "pixels that are true": ("logistic", put("n_features_in_", True), "n_features_in_"),
    "one class": ("logistic", put("classes_", np.array(["cat"])), "1 classes"),
    "one class twice": ("logistic", put("classes_", np.array(["cat"] * 4)), "one twice"),
    "a number without end": (
        "logistic", put("n_features_in_", node("str", "builtins", "JsonNode", content="9" * 9999)),
        "not as skops writes it",
    ),
    "10^9 trees declared": (
        "forest", put("n_estimators", 10**9), "n_estimators of its RandomForestClassifier is 1000"
    ),
    "one tree a hundred times": ("forest", shared, "is in two places"),
    "a tree that leads back": ("forest", nodes(tree, left_child=0), "lead back, or nowhere"),
    "a tree that leads nowhere": ("forest", nodes(tree, right_child=1 << 40), "lead back, or no"),
    "a tree that leads to one node twice": (
        "forest", nodes(tree, left_child=1, right_child=1), "lead back, or nowhere"
    ),
    "a tree that asks for other pixels": (
        "forest", nodes(tree, feature=16), "a pixel that there is not"
    ),
    "a tree that compares with nothing": (
        "forest", nodes(tree, threshold=np.nan), "compares with what is no number"
    ),
    "a tree without votes": (
        "forest",
        lambda schema, members: members.update(
            {tree(schema)["values"]["file"]: npy(
                0 * array(members[tree(schema)["values"]["file"]]))}),
        "no votes in a leaf",
    ),
    "a tree of other columns": (
        "forest",
        lambda schema, members: members.update(
            {tree(schema)["nodes"]["file"]: npy(np.zeros(3, [("feature", "<f8")]))}),
        "no numbers feature",
    ),
    "neighbours of no class": (
        "neighbours", again("_y", lambda values: values + 1), "a class that there is not"
    ),
    "more neighbours than images": ("neighbours", put("n_neighbors", 65), "n_neighbors"),
    "vectors of no class": (
        "machine", again("_n_support", lambda values: values * 2), "_n_support"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_costs_one_line(case: str, folder: Path) -> None:
    name, change, reason = HOSTILE[case]
    path = write_skops(folder / "model.skops", ESTIMATORS[name], changed=change)
    refusal_of(path, reason, convert_estimator)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"../../evil.npy": b""}, r"\.\./\.\./evil\.npy, which is no part"),
        ({"/etc/evil.npy": b""}, "no part"),
        ({"program.py": b"print()"}, r"program\.py, which is no part"),
        ({"schema.json": b"["}, "not as skops writes it"),
        ({"schema.json": b"[" * 1_000_000}, "not as skops writes it"),
        ({"schema.json": b"[]"}, "not as skops writes it"),
        ({"schema.json": b"{}"}, "not as skops writes it"),
    ],
)
def test_hostile_archives_cost_a_line(members: dict[str, bytes], reason: str, folder: Path) -> None:
    path = write_skops(folder / "model.skops", ESTIMATORS["logistic"], further=members)
    refusal_of(path, reason, convert_estimator)


@pytest.mark.parametrize("member", a_few(["schema.json", "0.npy"], 1))
def test_a_bomb_takes_no_gigabyte(member: str, tmp_path: Path) -> None:
    plainly = write_skops(tmp_path / "plain.skops", ESTIMATORS["logistic"])
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(plainly) as source:
        held = {name: source.read(name) for name in source.namelist()}
    file = attributes(json.loads(held["schema.json"]))["classes_"]["file"]
    held["schema.json" if member == "schema.json" else file] = b" " * (1 << 28)
    write_zip(path, held)
    reason, most = cost_of(path)
    assert "declared larger than the file could hold" in reason
    assert most < 1 << 19
