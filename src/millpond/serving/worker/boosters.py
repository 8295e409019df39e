"""The scores of LightGBM's boosters for many rows, to the last bit: by masks of leaves instead of walks.

A mask has a bit for each leaf of a tree, from left to right. A row that is larger than a node's threshold loses the
leaves to the left of that node; of those that it keeps when all nodes were asked, the first is where a walk would end.
What is lost up to each place among the thresholds of a column is known beforehand for all trees, as a line of a table.
So the leaves of a row are one line for each column, put together with AND, and there is no branch for the processor to
guess wrong, which is what a walk mostly waits for.

Source: QuickScorer (Lucchese et al., SIGIR 2015), whose masks of nodes are added up into lines here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, isnan
from typing import Any, NamedTuple

import numpy

from millpond.serving.worker.answers import Unsuited
from millpond.serving.worker.rows import Array

_FEW = 16
"""LightGBM itself is as quick for so many rows."""
_ROWS, _TREES = 128, 128
"""At once; a line has as many masks as trees, and there are as many lines as nodes."""
_NEARLY_ZERO = float(numpy.float32(1e-35))
"""LightGBM takes what is no further from zero for zero."""
_MOST_LEAVES, _MASK_BYTES = 64, 8
"""A bit each."""
_MOST_BYTES = 32 << 20
"""Of all tables: they are there in each process of a model."""


def scores_of(booster: Any) -> Callable[[Array], Array]:
    """What `booster.predict` gives for rows of doubles, shape (rows, columns).

    Raises Unsuited for boosters with splits by category, linear leaves, more than 64 leaves in a tree, several scores
    for a row, or scores of a rarer kind; and for large ones.
    """
    try:
        return _scores_of(booster)
    except RecursionError as error:  # trees of a thousand levels
        raise Unsuited from error


def _scores_of(booster: Any) -> Callable[[Array], Array]:
    told = booster.dump_model(num_iteration=1)  # all of a large one take seconds
    finish = _finish(str(told.get("objective")).split())
    is_plain = told["num_tree_per_iteration"] == 1 and not told["average_output"]
    if not (is_plain and told["tree_info"]) or finish is None:
        raise Unsuited
    nodes = booster.num_trees() * len(_tree(told["tree_info"][0]["tree_structure"]).nodes)
    if nodes * min(booster.num_trees(), _TREES) * _MASK_BYTES > _MOST_BYTES:
        raise Unsuited
    trees = [_tree(each["tree_structure"]) for each in booster.dump_model()["tree_info"]]
    tables = [_table(trees[at : at + _TREES]) for at in range(0, len(trees), _TREES)]
    width = booster.num_feature()

    def scores(matrix: Array) -> Array:
        if len(matrix) <= _FEW or matrix.shape[1] != width:
            whole: Array = booster.predict(matrix)
            return whole
        parts = numpy.array_split(matrix, -(-len(matrix) // _ROWS))  # none has one row, which is added in another order
        return finish(numpy.concatenate([_sums(tables, part) for part in parts]))

    return scores


def _finish(objective: Sequence[str]) -> Callable[[Array], Array] | None:
    """What becomes of the sums of a regression, or of two classes; None for all else."""
    match objective:
        case ["regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape"]:
            return lambda sums: sums
        case ["binary", steepness] if steepness.startswith("sigmoid:"):
            factor = -float(steepness.removeprefix("sigmoid:"))
            return lambda sums: numpy.array([1.0 / (1.0 + _exp(factor * each)) for each in sums.tolist()])
    return None


def _exp(power: float) -> float:
    """That of the C library, as LightGBM has it; NumPy's own differs in the last bit."""
    try:
        return exp(power)
    except OverflowError:
        return numpy.inf


class _Node(NamedTuple):
    """A question of a tree."""

    column: int
    threshold: float
    lost: int
    """The leaves to its left, which whatever is larger does not come to."""
    is_lost_without: bool
    """Nor does what is missing."""


@dataclass(frozen=True, kw_only=True)
class _Tree:
    nodes: Sequence[_Node]
    leaves: Sequence[float]


def _tree(structure: Mapping[str, Any]) -> _Tree:
    """As `dump_model` tells it: numbers with 17 digits, so that they are the same ones. Raises Unsuited."""
    nodes: list[_Node] = []
    leaves: list[float] = []

    def leaves_below(node: Mapping[str, Any]) -> int:
        if "split_feature" not in node:
            if "leaf_coeff" in node or len(leaves) == _MOST_LEAVES:
                raise Unsuited
            leaves.append(node["leaf_value"])
            return 1 << (len(leaves) - 1)
        left = leaves_below(node["left_child"])
        nodes.append(_node(node, left))
        return left | leaves_below(node["right_child"])

    leaves_below(structure)
    return _Tree(nodes=nodes, leaves=leaves)


def _node(told: Mapping[str, Any], left: int) -> _Node:
    threshold, missing = told["threshold"], told["missing_type"]
    if told["decision_type"] != "<=" or missing not in {"None", "NaN"} or isnan(threshold):
        raise Unsuited
    without = not told["default_left"] if missing == "NaN" else threshold < 0  # where it was never missing, it is zero
    return _Node(column=told["split_feature"], threshold=threshold, lost=left, is_lost_without=without)


@dataclass(frozen=True, kw_only=True)
class _Masks:
    """Masks as whole numbers, and the floating-point numbers that have as many bits: those tell which bit it is."""

    kind: Any
    number: Any
    digits: int
    """Of a number, below its exponent."""
    exponent_of_one: int


_OF_32 = _Masks(kind=numpy.uint32, number=numpy.float32, digits=23, exponent_of_one=127)
_OF_64 = _Masks(kind=numpy.uint64, number=numpy.float64, digits=52, exponent_of_one=1023)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Some of the trees, beside each other."""

    masks: _Masks
    columns: Sequence[tuple[int, Array]]
    """Each column that is asked for, with its thresholds in order."""
    lines: Array
    """Of each column: the leaves that are left below all thresholds, above the first, ..., above all, and without."""
    values: Array
    first: Array
    """Where the values of each tree begin, less the exponent of one."""

    def of(self, matrix: Array, is_missing: Array | None) -> Array:
        """The values of the leaves that rows come to, shape (trees, rows)."""
        left, begin = numpy.full((len(matrix), len(self.first)), -1).astype(self.masks.kind), 0
        for column, thresholds in self.columns:
            places = thresholds.searchsorted(matrix[:, column])
            if is_missing is not None:
                places[is_missing[:, column]] = len(thresholds) + 1
            left &= self.lines.take(places + begin, axis=0)
            begin += len(thresholds) + 2
        bits = (left & -left).astype(self.masks.number).view(self.masks.kind)
        exponents = (bits >> self.masks.kind(self.masks.digits)).astype(numpy.intp)
        values: Array = self.values.take((exponents + self.first).T)
        return values


def _table(trees: Sequence[_Tree]) -> _Table:
    most = max(len(tree.leaves) for tree in trees)
    masks = _OF_32 if most <= 32 else _OF_64
    asked = [(node, number) for number, tree in enumerate(trees) for node in tree.nodes]
    columns, lines = [], [numpy.empty((0, len(trees)), masks.kind)]
    for column in sorted({node.column for node, _ in asked}):
        own = sorted((each for each in asked if each[0].column == column), key=lambda each: each[0].threshold)
        left = numpy.full((len(own) + 2, len(trees)), -1).astype(masks.kind)
        keeps = ~numpy.array([node.lost for node, _ in own], masks.kind)
        numbers = numpy.array([number for _, number in own])
        left[numpy.arange(len(own)) + 1, numbers] = keeps
        numpy.bitwise_and.accumulate(left[:-1], axis=0, out=left[:-1])
        without = numpy.array([node.is_lost_without for node, _ in own])
        numpy.bitwise_and.at(left[-1], numbers[without], keeps[without])
        columns.append((column, numpy.array([node.threshold for node, _ in own])))
        lines.append(left)
    values = numpy.zeros((len(trees), most))
    for number, tree in enumerate(trees):
        values[number, : len(tree.leaves)] = tree.leaves
    first = numpy.arange(len(trees)) * most - masks.exponent_of_one
    return _Table(masks=masks, columns=columns, lines=numpy.concatenate(lines), values=values.ravel(), first=first)


def _sums(tables: Sequence[_Table], matrix: Array) -> Array:
    """One tree after the other, as LightGBM adds: NumPy does so where rows lie side by side."""
    is_zero, is_missing = numpy.abs(matrix) <= _NEARLY_ZERO, numpy.isnan(matrix)
    if is_zero.any():
        matrix = numpy.where(is_zero, 0.0, matrix)
    values = [table.of(matrix, is_missing if is_missing.any() else None) for table in tables]
    sums: Array = numpy.add.reduce(numpy.concatenate(values), axis=0, initial=0.0)
    return sums
