"""Trees of scikit-learn, out of a file: their nodes lead from a root to leaves, or are refused."""

from __future__ import annotations

from typing import Final

import numpy as np

from opsin.importing.skops_file import SkopsObject
from opsin.onnx_files.refusal import refused
from opsin.onnx_files.tree_ensemble import TreeNodes

_LARGEST: Final = float(np.finfo(np.float32).max)


def forest_trees(forest: SkopsObject, units: int, classes: int) -> list[TreeNodes]:
    """Return the trees of a forest, whose leaves hold each class's share over all trees."""
    estimators = forest.items("estimators_")
    forest.whole("n_estimators", len(estimators), len(estimators))
    if not estimators:
        raise forest.refusal("has no trees")
    found = []
    for tree in (each.object("tree_") for each in estimators):
        nodes = tree.records("nodes", left_child="iu", right_child="iu", feature="iu",
                             threshold="f")  # fmt: skip
        leaf = nodes["left_child"] == -1
        values = tree.numbers("values", len(leaf), 1, classes)[:, 0]
        sums = values.sum(axis=1, keepdims=True)
        if (values < 0).any() or not (sums[leaf] > 0).all():
            raise forest.refusal("has a tree with no votes in a leaf")
        shares = np.zeros_like(values)
        shares[leaf] = values[leaf] / sums[leaf] / len(estimators)
        one = TreeNodes(
            nodes["feature"], nodes["threshold"], nodes["left_child"], nodes["right_child"], leaf,
            shares,
        )  # fmt: skip
        found.append(_checked(forest.file.name, one, units))
    return found


def boosted_trees(boosting: SkopsObject, units: int, classes: int) -> list[TreeNodes]:
    """Return the trees of ``HistGradientBoostingClassifier``, whose leaves add to the logits."""
    columns = range(1, 2) if classes == 2 else range(classes)
    found = []
    for one_round in boosting.items("_predictors"):
        predictors = one_round.listed
        if len(predictors) != len(columns):
            raise boosting.refusal("has a round that lacks trees")
        for column, predictor in zip(columns, predictors, strict=True):
            nodes = predictor.records(
                "nodes", left="iu", right="iu", feature_idx="iu", num_threshold="f", value="f",
                is_leaf="iub", is_categorical="iub",
            )  # fmt: skip
            leaf = nodes["is_leaf"] != 0
            if nodes["is_categorical"].any():
                raise boosting.refusal("splits by categories")
            if not (np.abs(nodes["value"]) <= _LARGEST).all():
                raise boosting.refusal("has a leaf that holds no number")
            values = np.zeros((len(leaf), classes))
            values[leaf, column] = nodes["value"][leaf]
            one = TreeNodes(
                nodes["feature_idx"], nodes["num_threshold"], nodes["left"], nodes["right"], leaf,
                values,
            )  # fmt: skip
            found.append(_checked(boosting.file.name, one, units))
    if not found:
        raise boosting.refusal("has no trees")
    return found


def _checked(file: str, tree: TreeNodes, units: int) -> TreeNodes:
    """Return a tree whose nodes all lie behind their parents: no way in it is without end."""
    inner, count = ~tree.leaf, len(tree.leaf)
    parents = np.flatnonzero(inner)
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    inside = (children > np.concatenate([parents, parents])).all() and (children < count).all()
    if not inside or len(np.unique(children)) != len(children) or len(children) != count - 1:
        raise refused(file, "a tree in it has nodes that lead back, or nowhere")
    if not ((tree.feature[inner] >= 0) & (tree.feature[inner] < units)).all():
        raise refused(file, "a tree in it asks for a pixel that there is not")
    if not (np.abs(tree.threshold[inner]) <= _LARGEST).all():
        raise refused(file, "a tree in it compares with what is no number")
    return tree
