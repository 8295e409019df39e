"""The tables of a pipeline in the catalog: made, checked whose they are, and asked how far each stream has come.

A target's own log says up to which version of a source it has come: each batch is a commit with a transaction of
Delta's (application: flow, generation and source; version: the source's). So there is no checkpoint beside the table
that could say something else. A full refresh takes all rows out and begins another generation, in one commit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any
from urllib.parse import quote as url_quote
from urllib.parse import urlencode

from pyspark.sql.connect import functions as F
from pyspark.sql.types import DataType, StructType

from millpond.catalog.names import quote, text_literal
from millpond.engine.types import sql_text
from millpond.features.connection import Connection
from millpond.sdk.pipelines import names
from millpond.sdk.pipelines.domain import Dataset, Flow, Kind, PipelineFailed, Spec
from millpond.sdk.pipelines.files import listed
from millpond.sdk.pipelines.graph import Graph, where
from millpond.sdk.pipelines.reading import Stream, Versions

OWNER = "pipelines.pipelineId"
KIND = "pipelines.datasetType"
DATASET = "pipelines.datasetId"
"""Of tables beside one: the id of that."""
_STAGED = "staged_"
_PAGE = 1000
RESET = "pipelines.reset.allowed"
"""`false` keeps a table's rows when all is refreshed in full. Source: Databricks, "Pipeline properties reference"."""
Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Application:
    """Under which a table's log keeps how far a flow's target has come, in one generation of that."""

    name: str
    target: str
    generation: int

    @property
    def held(self) -> str:
        """What a commit holds on to: one of another generation conflicts with it."""
        return f"{self.generation} {_generations(self.target)}"


_SIZED = re.compile(r"\b(?:var)?char\(\d+\)")


class Tables:
    """Tables, as the user may see and change them."""

    def __init__(self, spec: Spec, spark: Any, connection: Connection) -> None:
        self._spec = spec
        self._spark = spark
        self._connection = connection
        self._ids: dict[str, str] = {}
        self._token = token_hex(4)

    # -- what is there ------------------------------------------------------------------------------------------

    def find(self, name: str) -> Table | None:
        """A table, as the catalog's API tells of it."""
        found = self._connection.get(f"/api/2.1/unity-catalog/tables/{url_quote(name, safe='')}")
        if found is not None:
            self._ids[name] = str(found["table_id"])
        return found

    def id_of(self, name: str) -> str:
        """A table's id. Raises PipelineFailed for none."""
        if name not in self._ids and self.find(name) is None:
            raise PipelineFailed(f"Table '{name}' does not exist, or you may not see it.")
        return self._ids[name]

    def log(self, name: str, applications: Sequence[str] = ("",)) -> tuple[int, dict[str, int]]:
        """A table's newest version, and its transactions of applications."""
        query = urlencode([("table", name), *(("application", each) for each in applications)])
        told = self._connection.get(f"/api/millpond/scoring/transactions?{query}")
        if told is None:
            raise PipelineFailed(f"Table '{name}' does not exist, or you may not read it.")
        return int(told["version"]), dict(told["transactions"])

    def newest(self, name: str) -> int:
        """A table's newest version."""
        return self.log(name)[0]

    def is_delta(self, name: str) -> bool:
        """Whether there is a Delta table of a name, whose log can be asked."""
        found = self.find(name)
        return found is not None and found.get("table_type") != "VIEW" and found.get("data_source_format") == "DELTA"

    def check_stream(self, flow: Flow, stream: Stream) -> None:
        """Raises PipelineFailed for what cannot be streamed."""
        found = self.find(stream.table)
        if not self.is_delta(stream.table) or found is None:
            raise PipelineFailed(
                f"{where(flow)}: '{stream.table}' is streamed, and is no Delta table that you may see."
            )
        if (found.get("properties") or {}).get(KIND) == Kind.MATERIALIZED_VIEW:
            raise PipelineFailed(
                f"{where(flow)}: '{stream.table}' is a materialized view of another pipeline, which is made anew each "
                "time and cannot be read as a stream. Read it with spark.read.table."
            )

    # -- whose they are -----------------------------------------------------------------------------------------

    def check(self, dataset: Dataset) -> Table | None:
        """The table of a dataset, if it is there. Raises PipelineFailed for one that is not this pipeline's."""
        found = self.find(dataset.name)
        if found is None:
            return None
        known = found.get("properties") or {}
        owner = known.get(OWNER)
        if owner != self._spec.pipeline_id:
            what = "an ordinary table" if owner is None else f"a table of the pipeline {owner}"
            raise PipelineFailed(
                f"'{dataset.name}' ({dataset.location}) is there already, as {what}. Rename the dataset, or drop that "
                "table first."
            )
        if known.get(KIND, dataset.kind.value) != dataset.kind.value:
            raise PipelineFailed(
                f"'{dataset.name}' ({dataset.location}) was a {known[KIND]}, and is declared as a "
                f"{dataset.kind.value}. Drop the table first, or give the dataset another name."
            )
        return found

    def prepare(self, dataset: Dataset, schema: StructType, *, full: bool) -> None:
        """Make the table of a dataset, or bring it to what is declared. Raises PipelineFailed."""
        found = self.check(dataset)
        if found is None:
            self._create(dataset, schema)
            return
        if dataset.kind is Kind.STREAMING_TABLE:
            if full and dataset.properties.get(RESET, "").lower() != "false":
                self._begin_anew(dataset, schema, found)
            else:
                self._fit(dataset, schema, found)
        if (dataset.comment or "") != (found.get("comment") or "") and dataset.comment is not None:
            self.run(f"COMMENT ON TABLE {names.quoted(dataset.name)} IS {text_literal(dataset.comment)}")
        known = found.get("properties") or {}
        changed = {key: value for key, value in dataset.properties.items() if known.get(key) != value}
        if changed:
            self.run(f"ALTER TABLE {names.quoted(dataset.name)} SET TBLPROPERTIES ({_pairs(changed)})")

    def _create(self, dataset: Dataset, schema: StructType) -> None:
        columns = dataset.schema if isinstance(dataset.schema, str) else _columns(schema, dataset.column_comments)
        self.create(
            dataset.name, columns, comment=dataset.comment,
            partitioned_by=dataset.partitioned_by, clustered_by=dataset.clustered_by,
            properties={**dataset.properties, OWNER: self._spec.pipeline_id, KIND: dataset.kind.value},
        )  # fmt: skip

    def create(
        self, name: str, columns: str, *, comment: str | None = None, partitioned_by: Sequence[str] = (),
        clustered_by: Sequence[str] = (), properties: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Make an empty table, if there is none."""
        partitions = f" PARTITIONED BY ({', '.join(map(quote, partitioned_by))})" if partitioned_by else ""
        partitions += f" CLUSTER BY ({', '.join(map(quote, clustered_by))})" if clustered_by else ""
        told = f" COMMENT {text_literal(comment)}" if comment is not None else ""
        self.run(
            f"CREATE TABLE IF NOT EXISTS {names.quoted(name)} ({columns}) USING DELTA{partitions}{told} "
            f"TBLPROPERTIES ({_pairs(properties)})"
        )

    def beside(self, dataset: Dataset, what: str, schema: StructType, generation: int) -> str:
        """The name of a table of ours beside a dataset's, of a generation of that; it is made if there is none."""
        name, target = names.beside(dataset.name, what), self.id_of(dataset.name)
        found = self.find(name)
        known = (found or {}).get("properties") or {}
        if found is not None and (known.get(OWNER) != self._spec.pipeline_id or DATASET not in known):
            raise PipelineFailed(
                f"'{name}', where the pipeline keeps what it needs, is no such table of this pipeline."
            )
        if found is None or known[DATASET] != target or self._has_other_types(name, target, schema, generation, found):
            self.drop(name)
            self.create(name, _columns(schema, {}), properties={OWNER: self._spec.pipeline_id, DATASET: target})
            self.find(name)
        else:
            self._add_columns(name, schema, found)
        self._empty(name, dataset.name, generation)
        return name

    def _has_other_types(self, name: str, target: str, schema: StructType, generation: int, found: Table) -> bool:
        """Whether a table beside a target is of an earlier generation, whose columns had other types."""
        known, wanted = _types(found), _types_of(schema)
        if all(known.get(column, kind) == kind for column, kind in wanted.items()):
            return False
        return self.generation(name, target) < generation

    def stage(self, dataset: Dataset, rows: Any) -> str:
        """Write rows into a table beside a dataset's, which no other update writes to; its name."""
        name = self.staged(dataset)
        self.drop(name)
        self.create(
            name, _columns(rows.schema, {}),
            properties={OWNER: self._spec.pipeline_id, DATASET: self.id_of(dataset.name)},
        )  # fmt: skip
        rows.write.format("delta").mode("append").saveAsTable(names.quoted(name))
        return name

    def staged(self, dataset: Dataset) -> str:
        """The name of the table with a dataset's staged rows."""
        return names.beside(dataset.name, f"{_STAGED}{self._token}")

    def drop(self, name: str) -> None:
        """Leave nothing of a table."""
        self.run(f"DROP TABLE IF EXISTS {names.quoted(name)}")

    def _begin_anew(self, dataset: Dataset, schema: StructType, found: Table) -> None:
        generation = self._empty(dataset.name, dataset.name)
        if _types(found) != _types_of(schema) or _partitions(found) != _lowered(dataset.partitioned_by):
            self._overwrite_columns(dataset.name, schema, dataset.partitioned_by)
            if self.generation(dataset.name) != generation:  # another update's rows went with the old columns
                self._empty(dataset.name, dataset.name)

    def _empty(self, name: str, target: str, generation: int | None = None) -> int:
        """Take all rows out of a table, for the next generation of a target, or for the one given if it is older."""
        application = _generations(target)
        known = self.log(name, [application])[1].get(application)
        if generation is not None and generation <= (known or 0):
            return generation
        generation = (known or 0) + 1 if generation is None else generation
        writer = self._spark.table(names.quoted(name)).limit(0).write.format("delta").mode("overwrite")
        writer = writer.option("txnAppId", application).option("txnVersion", generation)
        writer.option("millpond.txnAfter", "none" if known is None else known).saveAsTable(names.quoted(name))
        return generation

    def _overwrite_columns(self, name: str, schema: StructType, partitioned_by: Sequence[str] = ()) -> None:
        """Leave no rows, and give a table other columns, or other partitions."""
        empty = self._spark.createDataFrame([], schema)
        writer = empty.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        if partitioned_by:
            writer = writer.partitionBy(*partitioned_by)
        writer.saveAsTable(names.quoted(name))

    def _fit(self, dataset: Dataset, schema: StructType, found: Table) -> None:
        known = _types(found)
        if _partitions(found) != _lowered(dataset.partitioned_by):
            raise PipelineFailed(
                f"'{dataset.name}' ({dataset.location}) is partitioned by {_partitions(found)}, and is declared as "
                f"partitioned by {_lowered(dataset.partitioned_by)}. Refresh it in full."
            )
        for field in schema.fields:
            there, wanted = known.get(field.name.lower()), _type(field.dataType)
            if there not in {None, wanted}:
                raise PipelineFailed(
                    f"'{dataset.name}' ({dataset.location}): the column '{field.name}' is {there} in the table, and is "
                    f"declared as {wanted}. Refresh it in full, or cast the column."
                )
        self._add_columns(dataset.name, schema, found)

    def _add_columns(self, name: str, schema: StructType, found: Table) -> None:
        known = _types(found)
        added = StructType([field for field in schema.fields if field.name.lower() not in known])
        if added.fields:
            self.run(f"ALTER TABLE {names.quoted(name)} ADD COLUMNS ({_columns(added, {})})")

    def changes_columns(self, dataset: Dataset, schema: StructType) -> bool:
        """Whether the table has other columns than these, another order of them, or other partitions."""
        found = self.find(dataset.name)
        if found is None or _partitions(found) != _lowered(dataset.partitioned_by):
            return True
        return list(_types(found).items()) != list(_types_of(schema).items())

    def run(self, statement: str) -> list[Any]:
        """Run a statement as the user."""
        rows: list[Any] = self._spark.sql(statement).collect()
        return rows

    def discover(self, dataset: Dataset, stream: Stream) -> None:
        """Note the files of a stream that are new, in one commit."""
        assert stream.files is not None
        columns = StructType().add("source", "string").add("path", "string")
        name = self.beside(dataset, "files", columns, self.generation(dataset.name))
        application = f"millpond.pipeline/files/{stream.files.key}"
        _, done = self.log(name, [application])
        rows = self._spark.table(names.quoted(name)).filter(F.col("source") == stream.files.key).collect()
        new = sorted(set(listed(stream.files)) - {row["path"] for row in rows})
        if new:
            frame = self._spark.createDataFrame(
                [(stream.files.key, path) for path in new], "source STRING, path STRING"
            )
            writer = frame.write.format("delta").mode("append").option("txnAppId", application)
            after = done.get(application)
            writer = writer.option("millpond.txnAfter", "none" if after is None else after)
            writer.option("txnVersion", (after or 0) + 1).saveAsTable(names.quoted(name))

    def files(self, stream: Stream, versions: Versions) -> Versions:
        """With the files that commits note, and their columns. Raises PipelineFailed where nothing says the columns."""
        assert stream.files is not None
        reader = self._spark.read.option("millpond.changes", "appended").option("endingVersion", versions.end)
        if versions.start is not None:
            reader = reader.option("startingVersion", versions.start)
        rows = reader.table(names.quoted(stream.table)).filter(F.col("source") == stream.files.key).collect()
        reader = self._spark.read.format(stream.files.format).options(**dict(stream.files.options))
        if stream.files.schema:
            reader = reader.schema(stream.files.schema)
        schema = reader.load(stream.files.path).schema.json()
        return replace(versions, paths=tuple(sorted(row["path"] for row in rows)), schema=schema)

    # -- how far they have come ---------------------------------------------------------------------------------

    def generation(self, name: str, target: str | None = None) -> int:
        """How often a table, or the target that it is beside, was refreshed in full."""
        application = _generations(target or name)
        return self.log(name, [application])[1].get(application, 0)

    def application(self, flow: Flow, stream: Stream) -> Application:
        """Under which the log of a flow's target keeps the version of a source up to which it has come.

        Raises PipelineFailed where the source is another table than when the flow began.
        """
        self.find(stream.table)  # it may be another by now
        generation, source = self.generation(flow.target), self.id_of(stream.table)
        key = f"pipelines.source.{generation}.{flow.name}.{stream.table}"
        known = ((self.find(flow.target) or {}).get("properties") or {}).get(key)
        if known is None:
            self.run(
                f"ALTER TABLE {names.quoted(flow.target)} SET TBLPROPERTIES "
                f"({text_literal(key)} = {text_literal(source)})"
            )
        elif known != source:
            raise PipelineFailed(
                f"Flow '{flow.name}' ({flow.location}) streams '{stream.table}', which is another table than when it "
                f"began: it was dropped and made again. Refresh '{flow.target}' in full."
            )
        return self._application(flow, generation, f"{stream.table}/{stream.number}")

    def once(self, flow: Flow) -> Application:
        """The same of a flow that runs once."""
        return self._application(flow, self.generation(flow.target), "once")

    def _application(self, flow: Flow, generation: int, what: str) -> Application:
        name = f"millpond.pipeline/{self._spec.pipeline_id}/{flow.name}/{generation}/{what}"
        return Application(name=name, target=flow.target, generation=generation)

    def cursor(self, table: str, application: Application) -> int | None:
        """The version of a source up to which a table has come."""
        return self.log(table, [application.name])[1].get(application.name)

    def left(self, graph: Graph) -> list[str]:
        """Tables of the pipeline that no source declares any more."""
        found = self._owned(graph)
        return sorted(name for name in found if DATASET not in found[name] and name not in graph.datasets)

    def sweep(self, graph: Graph) -> None:
        """Drop what updates that were killed have staged."""
        for name, known in self._owned(graph).items():
            if DATASET in known and name.rpartition(".")[2].startswith(f"__{_STAGED}"):
                self.drop(name)

    def _owned(self, graph: Graph) -> dict[str, Mapping[str, str]]:
        """The pipeline's tables in the schemas that it writes to, with their properties."""
        homes = {(self._spec.catalog, self._spec.schema)}
        homes |= {(each.name.split(".")[0], each.name.split(".")[1]) for each in graph.tables()}
        found = {}
        for catalog, schema in homes:
            for each in self._tables(catalog, schema):
                known = each.get("properties") or {}
                if known.get(OWNER) == self._spec.pipeline_id:
                    found[str(each["full_name"]).lower()] = known
        return found

    def _tables(self, catalog: str, schema: str) -> Iterator[Table]:
        asked: dict[str, Any] = {"catalog_name": catalog, "schema_name": schema, "max_results": _PAGE}
        while True:
            told = self._connection.get(f"/api/2.1/unity-catalog/tables?{urlencode(asked)}") or {}
            yield from told.get("tables") or ()
            if not told.get("next_page_token"):
                return
            asked["page_token"] = told["next_page_token"]


def _generations(name: str) -> str:
    return f"millpond.pipeline/generation/{name}"


def _types(found: Table) -> dict[str, str]:
    """Types by lower-case names, texts of a length as texts."""
    columns = found.get("columns") or ()
    return {str(each["name"]).lower(): _SIZED.sub("string", str(each["type_text"])) for each in columns}


def _types_of(schema: StructType) -> dict[str, str]:
    return {field.name.lower(): _type(field.dataType) for field in schema.fields}


def _type(kind: DataType) -> str:
    """A type as the catalog shows it and SQL takes it, with names of fields quoted where they have to be."""
    return sql_text(kind.jsonValue())


def _partitions(found: Table) -> list[str]:
    columns = [each for each in found.get("columns") or () if each.get("partition_index") is not None]
    return [str(each["name"]).lower() for each in sorted(columns, key=lambda each: int(each["partition_index"]))]


def _lowered(given: Sequence[str]) -> list[str]:
    return [each.lower() for each in given]


def _columns(schema: StructType, comments: Mapping[str, str]) -> str:
    pieces = []
    for field in schema.fields:
        comment = comments.get(field.name.lower()) or field.metadata.get("comment")
        told = f" COMMENT {text_literal(comment)}" if comment else ""
        pieces.append(f"{quote(field.name)} {_type(field.dataType)}{told}")
    return ", ".join(pieces)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{text_literal(key)} = {text_literal(value)}" for key, value in values.items())
