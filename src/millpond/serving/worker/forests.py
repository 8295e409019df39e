"""The answers of scikit-learn's forests, to the last bit: for few rows by a walk through all trees at once.

scikit-learn's own way is a call for each tree, which takes 4 us before it looks at a row. What it compares and how it
adds is kept: numbers in single precision with thresholds in double, and values in the order of the trees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy

from millpond.serving.worker.rows import Array

_FEW, _WIDE, _FEW_OF_WIDE = 128, 300, 59
"""Rows, columns, and rows of more columns than that. The walk is mostly quicker for up to 400 or 1,000 rows, but a
proof has to try more rows than are walked: 60 it tries anyway, and more of many columns take it long."""
_MOST_BYTES = 64 << 20
"""Of a forest's nodes beside scikit-learn's own: those of 1.8 million with the chances of two classes."""
_NODE_BYTES = 20
_AT_ONCE = 1 << 18
"""So many values are added in one go at most, for what they take in memory."""
_LEVELS, _GOING = 6, 0.7
"""After so many levels walks that have ended are left out, if at most this part of them goes on."""


def few(columns: int) -> int:
    """Up to how many rows are walked, of so many columns."""
    return _FEW if columns <= _WIDE else _FEW_OF_WIDE


def mean_of(trees: Sequence[Any]) -> Callable[[Array], Array]:
    """What a forest makes of finite numbers in single precision: the mean of its trees' values, one row for each."""
    by_tree = partial(_tree_by_tree, trees)
    outputs = trees[0].value.shape[2]
    bytes_taken = sum(tree.node_count for tree in trees) * (_NODE_BYTES + 8 * outputs)
    if len(trees) < max(tree.max_depth for tree in trees) or bytes_taken > _MOST_BYTES:
        return by_tree  # a step of the walk takes as long as the call of a tree
    table, at_most = _table(trees), few(trees[0].n_features)
    at_once = max(1, _AT_ONCE // (len(trees) * outputs))

    def mean(matrix: Array) -> Array:
        if not 0 < len(matrix) <= at_most:
            return by_tree(matrix)
        return numpy.concatenate([table.mean(matrix[at : at + at_once]) for at in range(0, len(matrix), at_once)])

    return mean


def _tree_by_tree(trees: Sequence[Any], matrix: Array) -> Array:
    total: Array = numpy.array(trees[0].predict(matrix), dtype=numpy.float64)
    for tree in trees[1:]:
        total += tree.predict(matrix)
    total /= len(trees)
    return total


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The nodes of all trees: their roots, then their next levels, and so on. What is met most lies close together."""

    trees: int
    depth: int
    feature: Array
    threshold: Array
    """Whatever is larger goes to the second child."""
    first: Array
    """The first child of each node, with the second behind it; a leaf leads to itself."""
    value: Array

    def mean(self, matrix: Array) -> Array:
        """For each row."""
        values = self.value.take(self._leaves(matrix), axis=0).reshape(self.trees, -1)
        if values.shape[1] == 1:  # NumPy adds numbers that lie side by side in an order of its own
            total = numpy.add.accumulate(values, axis=0)[-1]
        else:
            total = numpy.add.reduce(values, axis=0, initial=-0.0)  # which changes nothing, where 0.0 would
        means: Array = (total / self.trees).reshape(len(matrix), -1)
        return means

    def _leaves(self, matrix: Array) -> Array:
        """Where the walk of each tree and row ends, in this order."""
        count, width = matrix.shape
        numbers = matrix.ravel()
        leaves = node = numpy.repeat(numpy.arange(self.trees), count)
        row = numpy.tile(numpy.arange(count) * width, self.trees)
        walks = numpy.arange(len(node))
        for level in range(self.depth):
            if level and level % _LEVELS == 0:
                going = numpy.flatnonzero(self.first.take(node) != node)
                if not len(going):
                    break
                if len(going) <= _GOING * len(node):
                    leaves[walks] = node
                    walks, row, node = walks.take(going), row.take(going), node.take(going)
            is_larger = numbers.take(row + self.feature.take(node)) > self.threshold.take(node)
            node = self.first.take(node) + is_larger
        leaves[walks] = node
        return leaves


def _table(trees: Sequence[Any]) -> _Table:
    starts = numpy.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    left = numpy.concatenate([tree.children_left + start for tree, start in zip(trees, starts, strict=True)])
    right = numpy.concatenate([tree.children_right + start for tree, start in zip(trees, starts, strict=True)])
    is_leaf = numpy.concatenate([tree.children_left < 0 for tree in trees])
    levels = []
    level = starts
    while len(level):
        levels.append(level)
        parents = level[~is_leaf[level]]
        level = numpy.column_stack([left[parents], right[parents]]).ravel()
    order = numpy.concatenate(levels)
    is_leaf = is_leaf[order]
    first = numpy.arange(len(order), dtype=numpy.intp)  # another type would be converted at each step
    first[~is_leaf] = numpy.arange(len(trees), len(order), 2)  # children follow in the order of their parents
    threshold = _rounded_down(numpy.concatenate([tree.threshold for tree in trees])[order])
    threshold[is_leaf] = numpy.inf
    feature = numpy.concatenate([tree.feature for tree in trees])[order].astype(numpy.intp)
    feature[is_leaf] = 0
    value = numpy.concatenate([tree.value[:, 0] for tree in trees])[order]
    return _Table(
        trees=len(trees), depth=len(levels) - 1, feature=feature, threshold=threshold, first=first, value=value
    )


def _rounded_down(thresholds: Array) -> Array:
    """In single precision: the same numbers in single precision are larger than they are."""
    with numpy.errstate(over="ignore"):
        rounded: Array = thresholds.astype(numpy.float32)
    return numpy.where(rounded > thresholds, numpy.nextafter(rounded, numpy.float32(-numpy.inf)), rounded)
