"""The way to the server: its REST API for what tables are, Spark Connect for what is in them. Both as the user."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from millpond.features.tables import FeatureTable, feature_table

if TYPE_CHECKING:
    from ssl import SSLContext

    import polars as pl
    from pyspark.sql import DataFrame, SparkSession

ENTITY = "spark.millpond.entity"
"""The setting that tells lineage and audit what a session runs for."""
_TIMEOUT_S = 60.0


class Connection:
    """One user's server, found where `millpond env` says it is."""

    @property
    def spark(self) -> "SparkSession":
        """The session that is there, or a new one at SPARK_REMOTE."""
        from pyspark.sql import SparkSession

        active = SparkSession.getActiveSession()
        if active is None and "SPARK_REMOTE" not in os.environ:
            raise RuntimeError('No Spark session: run `eval "$(millpond env)"` first, or make one.')
        return active or SparkSession.builder.getOrCreate()

    @property
    def zone(self) -> str:
        """The session's time zone, in which times without one are."""
        return str(self.spark.conf.get("spark.sql.session.timeZone"))

    def full_name(self, name: str) -> str:
        """A table's name of three levels; those that are not given are the session's current ones."""
        parts = name.replace("`", "").split(".")
        if not all(parts) or len(parts) > 3:
            raise ValueError(f"'{name}' is no name of a table; write catalog.schema.table.")
        if len(parts) == 3:
            return ".".join(parts)
        catalog = self.spark.catalog
        missing = {1: [catalog.currentCatalog, catalog.currentDatabase], 2: [catalog.currentCatalog]}
        return ".".join([*(current() for current in missing[len(parts)]), *parts])

    def table(self, name: str, *, with_tags: bool = False, keyless: bool = False) -> FeatureTable:
        """A feature table; its tags cost another query.

        Raises ValueError for none, and for one without a primary key unless `keyless`.
        """
        full = self.full_name(name)
        info = self.get(f"/api/2.1/unity-catalog/tables/{quote(full, safe='')}")
        if info is None:
            raise ValueError(f"Feature table '{full}' does not exist, or you may not see it.")
        return feature_table(info, self._tags(full) if with_tags else {}, keyless=keyless)

    def exists(self, full: str) -> bool:
        """Whether there is a table of a full name that the user may see."""
        return self.get(f"/api/2.1/unity-catalog/tables/{quote(full, safe='')}") is not None

    def parameters(self, function: str) -> list[str]:
        """The names of a function's parameters, in order. Raises ValueError."""
        info = self.get(f"/api/2.1/unity-catalog/functions/{quote(self.full_name(function), safe='')}")
        if info is None:
            raise ValueError(f"Function '{function}' does not exist, or you may not see it.")
        given = (info.get("input_params") or {}).get("parameters") or []
        return [each["name"] for each in sorted(given, key=lambda each: int(each.get("position", 0)))]

    def version(self, name: str) -> int:
        """The table's newest version."""
        return int(self.spark.sql(f"DESCRIBE HISTORY {quoted(name)} LIMIT 1").collect()[0]["version"])

    def read(self, name: str, version: int | None = None) -> "DataFrame":
        """A table as the user may see it, now or at a version."""
        reader = self.spark.read
        return (reader if version is None else reader.option("versionAsOf", version)).table(quoted(name))

    def batches(self, frame: "DataFrame") -> Iterator["pl.DataFrame"]:
        """The rows of a data frame as they come, at least one frame; none is kept here."""
        import polars as pl

        plan = frame._plan.to_proto(self.spark.client)  # what `toArrow` does, without gathering it all
        for part in self.spark.client.to_table_as_iterator(plan, {}):
            if hasattr(part, "num_rows"):
                made = pl.from_arrow(part)
                assert isinstance(made, pl.DataFrame)
                yield made

    @contextmanager
    def on_behalf_of(self, run_id: str | None) -> Iterator[None]:
        """What is read and written meanwhile is noted as this run's."""
        if run_id is None:
            yield
            return
        conf = self.spark.conf
        before = conf.get(ENTITY, "")
        conf.set(ENTITY, f"RUN:{run_id}")
        try:
            yield
        finally:
            if before:
                conf.set(ENTITY, before)
            else:
                conf.unset(ENTITY)

    def get(self, path: str) -> dict[str, Any] | None:
        """The JSON at a path; None when it is not there."""
        return self._call("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON that a POST answers."""
        return self._call("POST", path, body) or {}

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON that a PATCH answers."""
        return self._call("PATCH", path, body) or {}

    def delete(self, path: str) -> None:
        """Remove what is at a path."""
        self._call("DELETE", path)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        import httpx

        host = os.environ.get("DATABRICKS_HOST") or os.environ.get("MLFLOW_TRACKING_URI", "")
        token = os.environ.get("DATABRICKS_TOKEN") or os.environ.get("MLFLOW_TRACKING_TOKEN", "")
        if not host.startswith("http"):
            raise RuntimeError('DATABRICKS_HOST is not set: run `eval "$(millpond env)"` first.')
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = host.rstrip("/") + path
        answer = httpx.request(method, url, json=body, headers=headers, timeout=_TIMEOUT_S, verify=_authorities())
        if answer.status_code == 404 and method == "GET":
            return None
        if answer.is_error:
            raise _error(answer.status_code, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def _tags(self, full: str) -> dict[str, str]:
        catalog, schema, name = full.split(".")
        rows = self.spark.sql(  # the catalog is a name, which no parameter can be
            f"SELECT tag_name, tag_value FROM {quoted(catalog)}.information_schema.table_tags "  # noqa: S608
            "WHERE schema_name = :schema AND table_name = :name",
            args={"schema": schema, "name": name},
        ).collect()
        return {row["tag_name"]: row["tag_value"] for row in rows}


@cache
def _authorities() -> "SSLContext":
    """Whose certificates are believed: to read them takes ten times as long as a call."""
    import httpx

    return httpx.create_ssl_context()


def quoted(name: str) -> str:
    """A dotted name for SQL, whatever is in its parts."""
    return ".".join(map(quoted_part, name.replace("`", "").split(".")))


def quoted_part(name: str) -> str:
    """One name, as of a column, for SQL; dots are its own."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text for SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _error(status: int, text: str) -> Exception:
    """What the server refused, as Python has it."""
    kind = {401: PermissionError, 403: PermissionError, 409: ValueError, 400: ValueError}.get(status, RuntimeError)
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"The server answered {status}: {text[:2000]}"
    return kind(message)
