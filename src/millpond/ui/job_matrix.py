"""The matrix of a job's runs by its tasks, light enough for ten thousand squares."""

from collections.abc import Mapping
from datetime import datetime

from nicegui.element import Element

from millpond.jobs.domain import Result, State
from millpond.jobs.viewing import Matrix
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.ui import urls
from millpond.ui.formats import duration_text
from millpond.ui.job_states import look, look_of


class JobMatrix(Element, component="components/job_matrix.js"):
    """The last runs of a job by its tasks, drawn by the browser from one letter for each square."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        runs = matrix.runs[::-1]
        states = list(dict.fromkeys(matrix.cells.values()))
        letters = {state: chr(65 + place) for place, state in enumerate(states)}
        longest = max((_length_s(run.started_at, run.ended_at) for run in runs), default=0) or 1.0
        self.props["states"] = [list(look_of(*state)) for state in states]
        self.props["tasks"] = list(matrix.keys)
        self.props["cells"] = [
            "".join(_letter(letters, matrix.cells.get((run.id, key))) for run in runs) for key in matrix.keys
        ]
        self.props["runs"] = [
            {
                "h": urls.job_run_url(run.id),
                "w": epoch_ms(run.created_at),
                "t": look(run)[1],
                "d": _length_s(run.started_at, run.ended_at) / longest,
                "s": f"Run {run.id}, {look(run)[0]}, {duration_text(1000 * _length_s(run.started_at, run.ended_at))}",
            }
            for run in runs
        ]


def _letter(letters: Mapping[tuple[State, Result], str], state: tuple[State, Result] | None) -> str:
    return "." if state is None else letters[state]


def _length_s(started: datetime | None, ended: datetime | None) -> float:
    return ((ended or utc_now()) - started).total_seconds() if started else 0.0
