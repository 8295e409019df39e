"""Pipelines of the tests: sources in a schema of their own, updated by the process that tasks run."""

import json
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.connect.session import SparkSession as ConnectSession

from millpond.sdk.pipelines.run import PipelineFailed, run
from tests.servers import Server

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An update that has ended."""

    events: list[Event]
    error: str | None

    def statuses(self, dataset: str) -> list[str]:
        """Those of the flows into a dataset, by its short name, without doubles."""
        found = [each["details"]["flow_progress"]["status"] for each in self._of(dataset)]
        return [status for at, status in enumerate(found) if status not in found[:at]]

    def counts(self, dataset: str) -> dict[str, Any]:
        """What the flows into a dataset wrote, dropped and expected."""
        told = [each["details"]["flow_progress"] for each in self._of(dataset)]
        found = [each for each in told if "metrics" in each]
        quality = [each["data_quality"] for each in found if "data_quality" in each]
        return {
            "written": sum(each["metrics"]["num_output_rows"] for each in found),
            "dropped": sum(each["dropped_records"] for each in quality),
            "failed": {one["name"]: one["failed_records"] for each in quality for one in each["expectations"]},
            "passed": {one["name"]: one["passed_records"] for each in quality for one in each["expectations"]},
        }

    def _of(self, dataset: str) -> list[Event]:
        return [
            each for each in self.events
            if each["event_type"] == "flow_progress" and each["origin"]["dataset_name"].endswith(f".{dataset}")
        ]  # fmt: skip


@dataclass(kw_only=True)
class Pipeline:
    """A pipeline, and a session of its user."""

    server: Server
    schema: str
    spark: SparkSession
    directory: Path
    sources: list[dict[str, str]] = field(default_factory=list)
    token: str | None = None
    """Of its user, if that is not the administrator."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def python(self, text: str, *, path: str = "/p/flows.py", kind: str = "python") -> "Pipeline":
        """With another source; one of the same path is replaced."""
        self.sources = [each for each in self.sources if each["path"] != path]
        self.sources.append({"path": path, "kind": kind, "text": textwrap.dedent(text)})
        return self

    def sql_file(self, text: str, *, path: str = "/p/flows.sql") -> "Pipeline":
        """With another source in SQL."""
        return self.python(text, path=path, kind="sql")

    def spec(self, **given: Any) -> dict[str, Any]:
        """What an update is told."""
        return {
            "pipeline_id": self.id, "pipeline_name": "p", "update_id": str(uuid.uuid4()), "catalog": "main",
            "schema": self.schema, "configuration": {}, "development": True, "continuous": False,
            "validate_only": False, "full_refresh": False, "refresh_selection": [], "full_refresh_selection": [],
            "parameters": {}, "storage": "", "sources": self.sources,
        } | given  # fmt: skip

    def update(self, **given: Any) -> Outcome:
        """Run an update in this process."""
        events: list[Event] = []
        with self._as_client():
            try:
                run(self.spec(**given), events.append)
            except PipelineFailed as error:
                return Outcome(events=events, error=str(error))
        return Outcome(events=events, error=None)

    def updated(self, **given: Any) -> Outcome:
        """Run one that must go well."""
        found = self.update(**given)
        assert found.error is None, found.error
        return found

    def process(self, **given: Any) -> "subprocess.Popen[str]":
        """Start an update in a process of its own, whose events are lines of JSON."""
        place = self.directory / f"{uuid.uuid4()}.json"
        place.write_text(json.dumps(self.spec(**given)))
        command = [sys.executable, "-m", "millpond.sdk.pipelines", str(place)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.server.client_env(token=self.token),
        )

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of a statement in the pipeline's schema, as plain tuples."""
        self.spark.sql(f"USE main.{self.schema}").collect()
        return [tuple(row) for row in self.spark.sql(text).collect()]

    def info(self, name: str) -> dict[str, Any]:
        """A table, as the catalog's API tells of it."""
        status, found = self.server.call("GET", f"/api/2.1/unity-catalog/tables/main.{self.schema}.{name}")
        assert status == 200, found
        return found

    def tables(self) -> set[str]:
        """The names of the tables in the schema."""
        return {row[1] for row in self.sql(f"SHOW TABLES IN main.{self.schema}")}

    @contextmanager
    def _as_client(self) -> Iterator[None]:
        before = getattr(ConnectSession._active_session, "session", None)
        ConnectSession._active_session.session = self.spark
        with pytest.MonkeyPatch.context() as patch:
            for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
                patch.setenv(name, self.server.client_env(token=self.token)[name])
            yield
        ConnectSession._active_session.session = before
