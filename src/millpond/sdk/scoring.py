"""Batch scoring: what is new in a table is given to a model, and its predictions are in another table once.

`score_table` reads what changed since the version that was scored last, and writes the predictions and the cursor in
one commit: Delta's own transaction of the target says up to which version of the source it is scored. So a process
that is killed at any line is simply run again.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlencode

from millpond.features.connection import Connection
from millpond.features.lookups import names_of

NEW_VERSION = ("continue", "rescore")
_ADDED = ("prediction", "model_name", "model_version", "source_version", "scored_at")
"""Columns of the target beside the source's."""
_ATTEMPTS = 5
_DELETED = "__millpond_deleted"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was scored."""

    source_version: int
    """Up to which version of the source all is scored now."""
    since_version: int | None
    """After which version rows were new; None where all rows were scored."""
    model_name: str
    model_version: str
    rows: int
    """With a prediction of this call."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A scoring, with all names resolved."""

    source: str
    source_id: str
    target: str
    asked: str
    """What `ai_query` asks: the version is settled."""
    model: str
    version: str
    inputs: tuple[str, ...]
    has_features: bool
    returns: str | None
    keys: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def application(self) -> str:
        """Under which the target's log keeps up to where the source is scored: one for all versions of the model."""
        return f"millpond.score/{self.source_id}/{self.model}"


def score_table(
    source: str,
    target: str,
    model: str,
    *,
    keys: Sequence[str] | str | None = None,
    columns: Sequence[str] | str = (),
    returns: str | None = None,
    on_new_version: str = "continue",
) -> Outcome:
    """Score what is new in the Delta table `source` with `model`, into the table `target`, which is made if need be.

    `model` is `models:/NAME/VERSION`, `models:/NAME@ALIAS` or the name of an endpoint. The target has the `keys` of
    the source (by default its primary key), other `columns` of it, `prediction`, `model_name`, `model_version`,
    `source_version` and `scored_at`. A row that was changed is scored again, and the prediction of one that was deleted
    goes; that takes keys. When the model has another version, that goes on where the one before ended (`continue`), or
    scores all rows (`rescore`). `returns` is the SQL type of a prediction where the signature does not say.

    Raises ValueError for what cannot be scored, and PySpark's errors.
    """
    if on_new_version not in NEW_VERSION:
        raise ValueError(f"on_new_version is one of {', '.join(NEW_VERSION)}, not '{on_new_version}'.")
    connection = Connection()
    task = _resolved(connection, source, target, model, names_of(keys), names_of(columns), returns)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _Scoring(connection, task).run(rescore=on_new_version == "rescore")
        except Exception as error:  # PySpark has no class for it
            if "CONCURRENT" not in str(error) or attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _resolved(
    connection: Connection,
    source: str,
    target: str,
    model: str,
    keys: tuple[str, ...],
    columns: tuple[str, ...],
    returns: str | None,
) -> _Task:
    full = connection.full_name(source)
    info = connection.get(f"/api/2.1/unity-catalog/tables/{quote(full, safe='')}")
    asked = connection.get(f"/api/millpond/scoring/target?{urlencode({'name': model})}")
    if info is None:
        raise ValueError(f"Table '{full}' does not exist, or you may not see it.")
    if asked is None:
        raise ValueError(f"'{model}' is no endpoint and no version of a model that you may ask.")
    names = [column["name"] for column in info.get("columns") or ()]
    keys = keys or _primary_key(info)
    unknown = [name for name in (*keys, *columns) if name not in names]
    if unknown:
        raise ValueError(f"'{full}' has no column {', '.join(unknown)}; it has {', '.join(names)}.")
    twice = sorted({*_ADDED} & {*keys, *columns})
    if twice:
        raise ValueError(f"The target has columns {', '.join(twice)} of its own; leave them out of keys and columns.")
    inputs = tuple(asked["inputs"]) if asked["inputs"] and not asked["has_features"] else ()
    missing = [name for name in inputs if name not in names]
    if missing and model.startswith("models:/"):
        raise ValueError(f"'{full}' lacks the columns {', '.join(missing)}, which {asked['name']} takes.")
    return _Task(
        source=full,
        source_id=info["table_id"],
        target=connection.full_name(target),
        asked=asked["name"],
        model=asked["model"] or asked["name"],
        version=asked["version"],
        inputs=inputs if not missing else tuple(names),
        has_features=asked["has_features"],
        returns=returns,
        keys=keys,
        columns=tuple(name for name in columns if name not in keys),
    )


def _primary_key(info: dict[str, Any]) -> tuple[str, ...]:
    found = [each["primary_key_constraint"] for each in info.get("table_constraints") or () if
             each.get("primary_key_constraint")]  # fmt: skip
    return tuple(found[0]["child_columns"]) if found else ()


class _Scoring:
    """One look at the source, and what comes of it."""

    def __init__(self, connection: Connection, task: _Task) -> None:
        self._connection = connection
        self._spark = connection.spark
        self._task = task
        self._cursor: int | None = None

    def run(self, *, rescore: bool) -> Outcome:
        """Score what is new. Raises ValueError, and PySpark's errors."""
        task = self._task
        if not self._connection.exists(task.target):
            self._make_target(self._newest())
        start = self._scored_up_to(rescore=rescore)
        newest = self._newest()
        if start != newest:
            self._score(start, newest)
        return Outcome(
            source_version=newest, since_version=start, model_name=task.model, model_version=task.version,
            rows=0 if start == newest else self._count(newest),
        )  # fmt: skip

    # -- where it stands ----------------------------------------------------------------------------------------

    def _newest(self) -> int:
        return self._transactions(self._task.source, self._task.application)[0]

    def _transactions(self, table: str, application: str) -> tuple[int, dict[str, int]]:
        query = urlencode({"table": table, "application": application})
        told = self._connection.get(f"/api/millpond/scoring/transactions?{query}")
        if told is None:
            raise ValueError(f"Table '{table}' does not exist, or you may not read it.")
        return int(told["version"]), told["transactions"]

    def _scored_up_to(self, *, rescore: bool) -> int | None:
        """The version of the source up to which it is scored; None where all rows are to be."""
        task = self._task
        self._cursor = self._find_cursor()
        if self._cursor is None and self._has(self._mine):
            self._cursor = self._find_cursor()  # perhaps somebody else has just scored it for the first time
            if self._cursor is None:
                raise ValueError(
                    f"'{task.target}' has predictions of {task.model} for another table than '{task.source}', or for "
                    "one that had its name before. Score into another table, or delete those rows first."
                )
        if rescore and self._has(f"{self._mine} AND model_version <> {_text(task.version)}"):
            return None
        return self._cursor

    def _find_cursor(self) -> int | None:
        task = self._task
        return self._transactions(task.target, task.application)[1].get(task.application)

    def _has(self, condition: str) -> bool:
        return bool(self._spark.table(_name(self._task.target)).where(condition).take(1))

    @property
    def _mine(self) -> str:
        return f"model_name = {_text(self._task.model)}"

    def _make_target(self, newest: int) -> None:
        schema = self._scored(self._all(newest), newest).schema
        columns = [f"{_quoted(field.name)} {field.dataType.simpleString()}" for field in schema]
        required = [f"{_quoted(name)} {_type(schema, name)} NOT NULL" for name in self._task.keys]
        keyed = len(self._task.keys)
        key = f", PRIMARY KEY ({_listed([*self._task.keys, 'model_name'])})" if keyed else ""
        name = [f"{column} NOT NULL" if column.startswith("`model_name`") else column for column in columns[keyed:]]
        self._spark.sql(
            f"CREATE TABLE IF NOT EXISTS {_name(self._task.target)} ({', '.join([*required, *name])}{key}) "
            f"COMMENT 'Predictions for the rows of {self._task.source}'"
        ).collect()

    # -- rows ---------------------------------------------------------------------------------------------------

    def _all(self, version: int) -> Any:
        return self._spark.read.option("versionAsOf", version).table(_name(self._task.source))

    def _changes(self, kind: str, start: int, end: int) -> Any:
        reader = self._spark.read.option("millpond.changes", kind)
        return reader.option("startingVersion", start).option("endingVersion", end).table(_name(self._task.source))

    def _score(self, start: int | None, newest: int) -> None:
        if start is None:
            rows = self._scored(self._all(newest), newest)
            self._write(rows, newest, mode="overwrite", replaceWhere=self._mine)
            return
        added, removed = (self._changes(kind, start, newest) for kind in ("added", "removed"))
        if not removed.take(1):
            self._write(self._scored(added, newest), newest, mode="append")
            return
        self._merge(added, removed, start, newest)

    def _merge(self, added: Any, removed: Any, start: int, newest: int) -> None:
        """Rows that were changed take the place of what was predicted for them, and what is deleted goes."""
        from pyspark.sql import functions as F

        keys = list(self._task.keys)
        if not keys and not removed.exceptAll(added).take(1):  # rows only moved to other files
            self._write(self._scored(added.exceptAll(removed), newest), newest, mode="append")
            return
        if not keys:
            raise ValueError(
                f"Rows of '{self._task.source}' were changed or deleted after version {start}, and it has no primary "
                "key: say with keys which columns tell its rows apart."
            )
        changed = added.exceptAll(removed)
        twins = changed.groupBy(keys).count().where("count > 1").take(1)
        if twins:
            raise ValueError(f"'{self._task.source}' has several rows for one key: {twins[0].asDict()}.")
        scored = self._scored(changed, newest).withColumn(_DELETED, F.lit(False))
        gone = removed.select(keys).subtract(added.select(keys))
        empty = [
            F.lit(None).cast(field.dataType).alias(field.name)
            for field in scored.schema
            if field.name not in (*keys, "model_name", _DELETED)
        ]
        model = F.lit(self._task.model).alias("model_name")
        deleted = gone.select(*keys, model, *empty, F.lit(True).alias(_DELETED)).select(*scored.columns)
        on = ".".join(map(_quoted, [*keys, "model_name"]))
        options = {"millpond.mergeOn": on, "millpond.deleteWhen": _DELETED}
        self._write(scored.unionByName(deleted), newest, mode="append", **options)

    def _scored(self, rows: Any, newest: int) -> Any:
        """Keys, columns and predictions, in the target's order."""
        from pyspark.sql import functions as F

        task = self._task
        inputs = task.inputs
        if task.has_features:
            from millpond.features import FeatureEngineeringClient

            rows, inputs = FeatureEngineeringClient().with_features(model_uri=task.asked, df=rows)
        request = f"struct({_listed(inputs or rows.columns)})"
        more = f", returnType => {_text(task.returns)}" if task.returns else ""
        return rows.select(
            *(F.col(_quoted(name)) for name in (*task.keys, *task.columns)),
            F.expr(f"ai_query({_text(task.asked)}, {request}{more})").alias("prediction"),
            F.lit(task.model).alias("model_name"),
            F.lit(task.version).alias("model_version"),
            F.lit(newest).cast("bigint").alias("source_version"),
            F.current_timestamp().alias("scored_at"),
        )

    def _write(self, rows: Any, newest: int, *, mode: str, **options: str) -> None:
        task = self._task
        told = {"source": task.source, "source_version": newest, "model": task.asked}
        writer = rows.write.format("delta").mode(mode).options(**options)
        writer = writer.option("txnAppId", task.application).option("txnVersion", newest)
        writer = writer.option("millpond.txnAfter", "none" if self._cursor is None else self._cursor)
        writer.option("userMetadata", json.dumps(told)).saveAsTable(_name(task.target))

    def _count(self, newest: int) -> int:
        found = self._spark.table(_name(self._task.target)).where(
            f"{self._mine} AND model_version = {_text(self._task.version)} AND source_version = {newest}"
        )
        return int(found.count())


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _name(full: str) -> str:
    return ".".join(map(_quoted, full.split(".")))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _type(schema: Any, name: str) -> str:
    return str(schema[name].dataType.simpleString())


def main() -> None:
    """What a job's task runs: the arguments of `score_table` as one JSON object."""
    found = score_table(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(found)))
    dbutils = getattr(__import__("builtins"), "dbutils", None)
    if dbutils is not None:
        for name, value in asdict(found).items():
            dbutils.jobs.taskValues.set(name, value)
