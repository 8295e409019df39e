"""One cell after the other in one namespace, as they come; what each puts out, as the Command Execution API has it.

It runs on clusters, perhaps in an interpreter that has none of our packages; IPython is all that it must have.
Source: the results of `/api/1.2/commands/status`, as databricks-sdk 0.156 reads them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millpond.jobs.notebook_run import NotebookRun, _Failed
from millpond.jobs.shell import open_shell
from millpond.sdk.dbutils import DbUtils
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.notebook import NotebookExit
from millpond.workspace.notebooks import Language, Notebook

MOST_ROWS = 1000
_MOST_TEXT = 4 << 20
_KINDS = {"i": "long", "u": "long", "f": "double", "b": "boolean", "M": "timestamp", "m": "string"}


class Repl(NotebookRun):
    """An interpreter."""

    def __init__(self, *, utils: DbUtils, api: Api) -> None:
        super().__init__(Notebook(cells=(), language=Language.PYTHON), "/", utils=utils, api=api, keep=lambda _: None)
        self._table: dict[str, Any] | None = None
        self._shell = open_shell(self._recorder)
        self._fill()

    def answer(self, text: str, language: str) -> dict[str, Any]:
        """Run a cell; its `state` and `results`."""
        self._recorder.clear()
        self._recorder.begin({"cell_type": "code", "outputs": []})
        self._table = None
        try:
            self._guarded(self._execute, text, Language(language.upper()))
        except NotebookExit as ended:
            return {"state": "Finished", "results": {"resultType": "text", "data": f"Notebook exited: {ended.value}"}}
        except KeyboardInterrupt:
            return _cancelled()
        except _Failed as failed:
            if isinstance(failed.error, KeyboardInterrupt):
                return _cancelled()
            return {"state": "Finished", "results": self._error(failed.error)}
        return {"state": "Finished", "results": self._results()}

    def display(self, value: Any, *more: Any, **options: Any) -> None:
        """Show something; a table is kept as one."""
        super().display(value, *more, **options)
        for each in (value, *more):
            self._table = _table(each) or self._table

    def _outputs(self) -> Sequence[Mapping[str, Any]]:
        outputs: Sequence[Mapping[str, Any]] = self._recorder.cells[-1]["outputs"]
        return outputs

    def _results(self) -> dict[str, Any]:
        texts: list[str] = []
        images: list[str] = []
        for output in self._outputs():
            data = output.get("data", {})
            if output["output_type"] == "stream":
                texts += output["text"]
            elif "image/png" in data:
                images.append("data:image/png;base64," + data["image/png"].replace("\n", ""))
            elif "text/plain" in data and self._table is None:
                texts.append(data["text/plain"] + "\n")
        text = "".join(texts).rstrip("\n")
        told = {"data": text[:_MOST_TEXT], "truncated": len(text) > _MOST_TEXT}
        if self._table is not None:
            return {"resultType": "table", **self._table, **({"summary": text[:_MOST_TEXT]} if text else {})}
        if len(images) > 1:
            return {"resultType": "images", "fileNames": images, **told}
        if images:
            return {"resultType": "image", "fileName": images[0], **told}
        return {"resultType": "text", **told}

    def _error(self, error: BaseException) -> dict[str, Any]:
        traces = [output["traceback"] for output in self._outputs() if output["output_type"] == "error"]
        printed = "".join(each for out in self._outputs() if out["output_type"] == "stream" for each in out["text"])
        message = f"{type(error).__name__}: {error}"
        cause = "\n".join(traces[-1]) if traces else message
        told = {"resultType": "error", "summary": message[:_MOST_TEXT], "cause": cause[:_MOST_TEXT]}
        return told | ({"data": printed[:_MOST_TEXT]} if printed else {})


def _cancelled() -> dict[str, Any]:
    return {"state": "Cancelled", "results": {"resultType": "error", "summary": "Cancelled", "cause": "Cancelled"}}


def _table(value: Any) -> dict[str, Any] | None:
    """Rows and columns of a data frame of Spark or pandas; None for what is none."""
    is_spark = hasattr(value, "toPandas") and hasattr(value, "limit") and hasattr(value, "schema")
    frame = value.limit(MOST_ROWS + 1).toPandas() if is_spark else value
    if not (type(frame).__module__.startswith("pandas.") and hasattr(frame, "columns")):
        return None
    shown = frame.head(MOST_ROWS)
    rows = json.loads(shown.to_json(orient="values", date_format="iso", default_handler=str))
    return {"data": rows, "schema": _schema(value, is_spark), "truncated": len(frame) > MOST_ROWS}


def _schema(value: Any, is_spark: bool) -> list[dict[str, Any]]:
    if is_spark:
        return [
            {"name": field.name, "type": field.dataType.json(), "metadata": json.dumps(field.metadata or {})}
            for field in value.schema.fields
        ]
    kinds = [_KINDS.get(getattr(kind, "kind", "O"), "string") for kind in value.dtypes]
    return [
        {"name": str(name), "type": json.dumps(kind), "metadata": "{}"}
        for name, kind in zip(value.columns, kinds, strict=True)
    ]
