"""The check `data_quality`: what must hold for the rows of a table's version, counted by the engine.

```yaml
- data_quality:
    table: main.eval.churn
    table_version: 12
    min_rows: 1000
    unique: [customer_id]
    columns: {age: {max_null_ratio: 0.01, minimum: 0, maximum: 120}, region: {allowed: [north, south]}}
    expectations: ["signed_up <= churned_at"]
    max_failing_ratio: 0.001
```
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from millpond.catalog.names import quote, text_literal
from millpond.kernel.errors import InvalidArgument
from millpond.registry.checks import NUMBER, Looked, PlainCheck, Subject, at_version

_COLUMN = ("max_null_ratio", "minimum", "maximum", "allowed")
_MAX_SHOWN = 20


def counts_query(params: Mapping[str, Any]) -> tuple[str, list[tuple[str, float]]]:
    """A query for one row: how many rows there are, and how many break each rule; and what the rules are called, with
    the ratio of rows that may break them. A rule that is null for a row is not broken by it, but an expectation is."""
    rules = [rule for column, said in params.get("columns", {}).items() for rule in _rules(column, said)]
    allowed = params.get("max_failing_ratio", 0.0)
    rules += [(text, f"NOT coalesce(({text}), false)", allowed) for text in params.get("expectations", ())]
    counts = "".join(f", count(CASE WHEN {broken} THEN 1 END)" for _, broken, _ in rules)
    place = at_version(params["table"], params["table_version"])
    return f"SELECT count(*){counts} FROM {place}", [(name, ratio) for name, _, ratio in rules]  # noqa: S608 - names are quoted; conditions are the author's, whose rights count


def _rules(column: str, said: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    name, found = quote(column), []
    if "max_null_ratio" in said:
        found.append((f"{column} is null", f"{name} IS NULL", float(said["max_null_ratio"])))
    if "minimum" in said:
        found.append((f"{column} < {said['minimum']}", f"{name} < {literal(said['minimum'])}", 0.0))
    if "maximum" in said:
        found.append((f"{column} > {said['maximum']}", f"{name} > {literal(said['maximum'])}", 0.0))
    if "allowed" in said:
        values = ", ".join(map(literal, said["allowed"]))
        found.append((f"{column} is not allowed", f"{name} NOT IN ({values})", 0.0))
    return found


def duplicates_query(params: Mapping[str, Any]) -> str:
    """A query for how many values of the columns `unique` stand in more than one row."""
    columns = ", ".join(map(quote, params["unique"]))
    place = at_version(params["table"], params["table_version"])
    return f"SELECT count(*) FROM (SELECT 1 FROM {place} GROUP BY {columns} HAVING count(*) > 1) AS d"  # noqa: S608 - names are quoted


def literal(value: Any) -> str:
    """A value as SQL writes it. Raises InvalidArgument for what is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, NUMBER):
        return repr(value)
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str):
        return text_literal(value)
    raise InvalidArgument(f"Check 'data_quality': '{str(value)[:60]}' is no number, text, day or time.")


def _look(subject: Subject, params: Mapping[str, Any]) -> Looked:
    query, rules = counts_query(params)
    rows, *broken = (column[0].as_py() for column in subject.tools.query(query).columns)
    failing = {name: count for (name, ratio), count in zip(rules, broken, strict=True) if count > ratio * rows}
    problems = [f"{name} in {count} of {rows} rows" for name, count in failing.items()]
    problems += _row_count(params, rows)
    if params.get("unique"):
        doubled = subject.tools.query(duplicates_query(params)).column(0)[0].as_py()
        problems += [f"{doubled} values of {', '.join(params['unique'])} in several rows"] if doubled else []
    told = "; ".join(problems[:_MAX_SHOWN]) or f"{rows} rows, and {len(rules)} rules hold"
    counts = {name: count for (name, _), count in zip(rules, broken, strict=True)}
    return not problems, told, {"rows": rows, "failing_rows": counts}


def _row_count(params: Mapping[str, Any], rows: int) -> list[str]:
    if rows < params.get("min_rows", 1):
        return [f"{rows} rows, at least {params.get('min_rows', 1)} are required"]
    return [f"{rows} rows, at most {params['max_rows']} are allowed"] if rows > params.get("max_rows", rows) else []


def _inspect(params: Mapping[str, Any]) -> None:
    for column, said in params.get("columns", {}).items():
        if not isinstance(said, dict) or set(said) - set(_COLUMN):
            raise InvalidArgument(f"Check 'data_quality': column '{column}' knows {', '.join(_COLUMN)}.")
        if not isinstance(said.get("allowed", [None]), list) or not said.get("allowed", [None]):
            raise InvalidArgument(f"Check 'data_quality': 'allowed' of column '{column}' is a list of values.")
        if not isinstance(said.get("max_null_ratio", 0), NUMBER):
            raise InvalidArgument(f"Check 'data_quality': 'max_null_ratio' of column '{column}' is a number.")
    if not all(isinstance(text, str) and text.strip() for text in params.get("expectations", ())):
        raise InvalidArgument("Check 'data_quality': an expectation is a condition in SQL.")
    if not all(isinstance(column, str) for column in params.get("unique", ())):
        raise InvalidArgument("Check 'data_quality': 'unique' is a list of columns.")
    counts_query(params)


DATA_QUALITY = PlainCheck(
    name="data_quality",
    types={
        "table": (str,), "table_version": (int,), "min_rows": (int,), "max_rows": (int,), "unique": (list,),
        "columns": (dict,), "expectations": (list,), "max_failing_ratio": NUMBER,
    },
    look=_look,
    slow=True,
    required=("table", "table_version"),
    inspect=_inspect,
)  # fmt: skip
