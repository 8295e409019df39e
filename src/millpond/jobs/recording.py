"""What a notebook's cells put out, as nbformat has it, within bounds. Standard library only: it runs in tasks.

All that is printed also goes where it went before, the task's log.
"""

import io
import json
from collections.abc import Mapping
from typing import Any, TextIO

MOST_OUTPUT_BYTES = 8 << 20
"""Of all outputs of a notebook; what comes after them is left out of it, and is in the log."""
_LONGEST_TRACE = 100_000
_LEFT_OUT = (
    "[Millpond: the notebook's outputs are larger than 8 MiB; the rest is left out, and texts are in the log.]\n"
)


class Recorder:
    """The outputs of cells, each cell's apart."""

    def __init__(self) -> None:
        self.cells: list[dict[str, Any]] = []
        self._room = MOST_OUTPUT_BYTES

    def clear(self) -> None:
        """Forget all cells."""
        self.cells.clear()
        self._room = MOST_OUTPUT_BYTES

    def begin(self, cell: dict[str, Any]) -> None:
        """What comes now is this cell's."""
        self.cells.append(cell)

    def text(self, name: str, text: str) -> None:
        """Something was printed on `stdout` or `stderr`."""
        outputs = self._outputs
        if not self._fits(len(text.encode("utf-8", "replace"))):
            return
        if outputs and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == name:
            outputs[-1]["text"].append(text)
        else:
            outputs.append({"output_type": "stream", "name": name, "text": [text]})

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any] | None, count: int | None = None) -> None:
        """Something was displayed; the value of a cell has a `count`."""
        shown = {key: _as_json(value) for key, value in data.items()}
        if not self._fits(len(json.dumps(shown))):
            return
        kind = {"output_type": "display_data"} if count is None else {"output_type": "execute_result"}
        told = {**kind, "data": shown, "metadata": dict(metadata or {})}
        self._outputs.append(told if count is None else {**told, "execution_count": count})

    def error(self, name: str, value: str, lines: list[str]) -> None:
        """The cell failed; this is shown whatever was before it."""
        shown = "\n".join(lines)[-_LONGEST_TRACE:].split("\n")
        told = {"output_type": "error", "ename": name, "evalue": value[:_LONGEST_TRACE], "traceback": shown}
        self._outputs.append(told)

    @property
    def _outputs(self) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = self.cells[-1]["outputs"]
        return outputs

    def _fits(self, size: int) -> bool:
        before = self._room
        self._room -= size
        if self._room < 0 <= before:
            self._outputs.append({"output_type": "stream", "name": "stderr", "text": [_LEFT_OUT]})
        return self._room >= 0


def _as_json(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


class Tee(io.TextIOBase):
    """A stream that also tells the recorder."""

    def __init__(self, name: str, to: TextIO, recorder: Recorder) -> None:
        self._name = name
        self._to = to
        self._recorder = recorder

    def write(self, text: str) -> int:
        """Pass on, and record."""
        self._to.write(text)
        self._recorder.text(self._name, text)
        return len(text)

    def flush(self) -> None:
        """Pass on."""
        self._to.flush()

    def fileno(self) -> int:
        """That of the stream below, for what writes to it directly; that is in the log only."""
        return self._to.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream below."""
        return self._to.encoding
