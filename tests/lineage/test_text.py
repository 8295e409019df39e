"""Columns through SQL text, form by form; the names are resolved as Spark resolves them."""

import pytest

from millpond.engine.lineage.columns import Rows, open_rows, source_rows
from millpond.engine.lineage.text import change_of, parse, query_rows

TABLES = {"t": ("a", "b", "c", "arr", "s", "k"), "u": ("k", "x", "y"), "v": ("k", "a", "z"), "w": ("id",)}


def find(parts: tuple[str, ...]) -> Rows:
    name = parts[-1].lower()
    return open_rows("files") if name == "files" else source_rows(name, TABLES[name])


def values(text: str) -> dict[str, set[str]]:
    """The source columns of each result."""
    rows = query_rows(parse(text), find)
    assert all(column.exact for column in rows.shown), text
    return {column.name: {f"{key}.{name}" for key, name in column.sources} for column in rows.shown}


def uses(text: str) -> set[str]:
    """The columns that are only looked at."""
    return {f"{key}.{name}" for key, name in query_rows(parse(text), find).uses}


QUERIES = {
    "SELECT a, b + c AS d FROM t": {"a": {"t.a"}, "d": {"t.b", "t.c"}},
    "SELECT T.A, `b` FROM T": {"A": {"t.a"}, "b": {"t.b"}},
    "SELECT t.* EXCEPT (arr, s, k), x.y FROM t JOIN u x ON t.k = x.k": {
        "a": {"t.a"}, "b": {"t.b"}, "c": {"t.c"}, "y": {"u.y"}},
    "SELECT * REPLACE (a + 1 AS a) FROM v": {"k": {"v.k"}, "a": {"v.a"}, "z": {"v.z"}},
    "SELECT s.f.g, s.h AS h, arr[0].q AS q FROM t": {"g": {"t.s"}, "h": {"t.s"}, "q": {"t.arr"}},
    "SELECT k FROM t JOIN u USING (k)": {"k": {"t.k"}},
    "SELECT * FROM u RIGHT JOIN w ON u.k = w.id": {"k": {"u.k"}, "x": {"u.x"}, "y": {"u.y"}, "id": {"w.id"}},
    "SELECT * FROM u FULL JOIN v USING (k)": {
        "k": {"u.k", "v.k"}, "x": {"u.x"}, "y": {"u.y"}, "a": {"v.a"}, "z": {"v.z"}},
    "SELECT * FROM u NATURAL JOIN v": {"k": {"u.k"}, "x": {"u.x"}, "y": {"u.y"}, "a": {"v.a"}, "z": {"v.z"}},
    "SELECT * FROM u LEFT SEMI JOIN v ON u.k = v.k": {"k": {"u.k"}, "x": {"u.x"}, "y": {"u.y"}},
    "SELECT x FROM u UNION ALL SELECT a FROM v": {"x": {"u.x", "v.a"}},
    "SELECT x, k FROM u UNION ALL BY NAME SELECT k, a AS x FROM v": {"x": {"u.x", "v.a"}, "k": {"u.k", "v.k"}},
    "SELECT x FROM u EXCEPT SELECT a FROM v": {"x": {"u.x"}},
    "WITH a AS (SELECT x AS p FROM u), b (q) AS (SELECT p FROM a) SELECT q FROM b": {"q": {"u.x"}},
    "WITH u AS (SELECT a AS x FROM v) SELECT x FROM u": {"x": {"v.a"}},
    "WITH RECURSIVE r (n) AS (SELECT x FROM u UNION ALL SELECT n + a FROM r JOIN v) SELECT n FROM r": {
        "n": {"u.x", "v.a"}},
    "SELECT q.d FROM (SELECT a + b AS d FROM t) q": {"d": {"t.a", "t.b"}},
    "SELECT p, q FROM (SELECT a, b FROM t) AS z (p, q)": {"p": {"t.a"}, "q": {"t.b"}},
    "SELECT sum(a) OVER (PARTITION BY b ORDER BY c) AS r FROM t": {"r": {"t.a", "t.b", "t.c"}},
    "SELECT rank() OVER w AS r FROM t WINDOW w AS (PARTITION BY b)": {"r": {"t.b"}},
    "SELECT count(*) AS n, count(b) AS m, sum(a) FILTER (WHERE c > 1) AS f FROM t": {
        "n": set(), "m": {"t.b"}, "f": {"t.a", "t.c"}},
    "SELECT CASE WHEN a > 0 THEN b ELSE c END AS d, coalesce(a, b) e, CAST(a AS STRING) FROM t": {
        "d": {"t.a", "t.b", "t.c"}, "e": {"t.a", "t.b"}, "a": {"t.a"}},
    "SELECT (SELECT max(x) FROM u WHERE u.k = t.k) AS m FROM t": {"m": {"u.x"}},
    "SELECT a IN (SELECT x FROM u) AS i, EXISTS (SELECT 1 FROM u WHERE u.k = t.k) AS e FROM t": {
        "i": {"t.a", "u.x"}, "e": set()},
    "SELECT transform(arr, x -> x + b) AS r, exists(arr, e -> e > 1) AS o FROM t": {
        "r": {"t.arr", "t.b"}, "o": {"t.arr"}},
    "SELECT e, p FROM t LATERAL VIEW explode(arr) l AS e LATERAL VIEW OUTER posexplode(arr) m AS p, q": {
        "e": {"t.arr"}, "p": {"t.arr"}},
    "SELECT explode(arr) FROM t": {"col": {"t.arr"}},
    "SELECT l.b2 FROM t, LATERAL (SELECT t.b + 1 AS b2) l": {"b2": {"t.b"}},
    "SELECT * FROM (SELECT a, b, c FROM t) PIVOT (sum(a) FOR b IN ('x' AS x1, 'y' AS y1))": {
        "c": {"t.c"}, "x1": {"t.a", "t.b"}, "y1": {"t.a", "t.b"}},
    "SELECT * FROM u UNPIVOT (val FOR name IN (x, y))": {"k": {"u.k"}, "name": set(), "val": {"u.x", "u.y"}},
    "SELECT struct(*) AS st FROM u": {"st": {"u.k", "u.x", "u.y"}},
    "SELECT date_add(MONTH, 1, a) AS d, extract(YEAR FROM b) AS y, current_date() AS n FROM t": {
        "d": {"t.a"}, "y": {"t.b"}, "n": set()},
    "SELECT * FROM VALUES (1, 2) AS z (p, q)": {"p": set(), "q": set()},
    "FROM t SELECT a": {"a": {"t.a"}},
    "SELECT p AS q, other FROM files": {"q": {"files.p"}, "other": {"files.other"}},
    "SELECT f.p, u.x FROM files f JOIN u ON u.k = f.k": {"p": {"files.p"}, "x": {"u.x"}},
    "SELECT a + 1 AS p, p * 2 AS q FROM t": {"p": {"t.a"}, "q": {"t.a"}},
}  # fmt: skip


@pytest.mark.parametrize("text", QUERIES)
def test_values(text: str) -> None:
    assert values(text) == QUERIES[text]


USES = {
    "SELECT a FROM t WHERE b > 1 AND c IN (SELECT x FROM u WHERE y = 1)": {"t.b", "t.c", "u.x", "u.y"},
    "SELECT a, count(*) FROM t GROUP BY a HAVING max(b) > 1": {"t.a", "t.b"},
    "SELECT a FROM t JOIN u ON t.k = u.k AND u.x > t.b": {"t.k", "u.k", "u.x", "t.b"},
    "SELECT t.a FROM t JOIN u USING (k)": {"t.k", "u.k"},
    "SELECT a AS p FROM t ORDER BY p, c LIMIT 3": {"t.a", "t.c"},
    "SELECT x FROM u LEFT ANTI JOIN v ON u.k = v.k": {"u.k", "v.k"},
    "SELECT (SELECT max(x) FROM u WHERE u.k = t.k) FROM t": {"u.k", "t.k"},
}


@pytest.mark.parametrize("text", USES)
def test_what_is_only_looked_at(text: str) -> None:
    assert uses(text) == USES[text]


CHANGES = {
    "UPDATE t SET a = b + 1, c = (SELECT max(x) FROM u WHERE u.k = t.k) WHERE s > 1": (
        {"a": {"t.b"}, "c": {"u.x"}}, {"u.k", "t.k", "t.s"}),
    "DELETE FROM t WHERE k IN (SELECT k FROM u)": ({}, {"t.k", "u.k"}),
    "MERGE INTO t USING (SELECT k, x + y AS n FROM u) s ON t.k = s.k WHEN MATCHED AND s.n > 1 THEN UPDATE SET a = s.n, "
    "t.b = t.b + 1 WHEN NOT MATCHED THEN INSERT (k, a) VALUES (s.k, 0) WHEN NOT MATCHED BY SOURCE THEN DELETE": (
        {"a": {"u.x", "u.y"}, "b": {"t.b"}, "k": {"u.k"}}, {"t.k", "u.k", "u.x", "u.y"}),
    "MERGE WITH SCHEMA EVOLUTION INTO t USING v ON t.k = v.k WHEN MATCHED THEN UPDATE SET * "
    "WHEN NOT MATCHED THEN INSERT *": ({"k": {"v.k"}, "a": {"v.a"}, "z": {"v.z"}}, {"t.k", "v.k"}),
}  # fmt: skip


@pytest.mark.parametrize("text", CHANGES)
def test_changes(text: str) -> None:
    change = change_of(parse(text), find)
    found: dict[str, set[str]] = {}
    for column in change.columns:
        found.setdefault(column.name, set()).update(f"{key}.{name}" for key, name in column.sources)
    assert (found, {f"{key}.{name}" for key, name in change.uses}) == CHANGES[text]


def test_a_name_that_is_not_known_makes_a_column_inexact_and_not_wrong() -> None:
    (known, unknown) = query_rows(parse("SELECT a, nowhere + b AS x FROM t"), find).shown
    assert known.exact
    assert not unknown.exact
    assert unknown.sources == {("t", "b")}
