"""The JSON of labels and explanations; both are ours alone."""

from typing import Any

from pydantic import BaseModel, Field

from millpond.inference_tables.predictions import MOST_LABELS, Explanation, Label


class LabelInput(BaseModel):
    """What turned out to be true of a row of a request."""

    databricks_request_id: str
    row_index: int = Field(default=0, ge=0, lt=1 << 31)
    label: bool | int | float | str | list[Any] | dict[str, Any]


class LabelsInput(BaseModel):
    """Several of them."""

    labels: list[LabelInput] = Field(min_length=1, max_length=MOST_LABELS)

    def all(self) -> list[Label]:
        """The labels."""
        return [
            Label(request_id=each.databricks_request_id, row=each.row_index, value=each.label) for each in self.labels
        ]


def explanation_json(found: Explanation) -> dict[str, Any]:
    """Where a prediction came from."""
    return {
        "table": found.table,
        "prediction": dict(found.prediction),
        "upstream": [{"kind": node.kind.value, "name": node.name, "key": node.key} for node in found.upstream],
        "data": [{"table": table, "version": version} for table, version in found.data],
    }
