"""Carrying a replay out."""

import time
from collections.abc import Callable, Sequence

from millpond.catalog.domain import Table
from millpond.identity.domain import Principal
from millpond.kernel.errors import FailedPrecondition
from millpond.replay.comparing import Comparison
from millpond.replay.domain import Answered, Asked, Recorded
from millpond.replay.recorded import RecordedRequests, pages
from millpond.serving.rehearsal import Candidate, Rehearsal, Rehearsals
from millpond.serving.worker_process import Answer

_CHUNK = 20
"""So many requests are asked before it is told how far it is."""
LONGEST_S = 3600.0
"""A replay takes no longer: others wait for it."""

GoesOn = Callable[[int, int], bool]
"""Takes how many requests are done, and of how many; whether to go on."""


class Runner:
    """Gives recorded requests to candidates."""

    def __init__(self, recorded: RecordedRequests, rehearsals: Rehearsals) -> None:
        self._recorded = recorded
        self._rehearsals = rehearsals

    def run(
        self, who: Principal, candidate: Candidate, table: Table, asked: Asked, before_ms: int, goes_on: GoesOn
    ) -> Comparison | None:
        """What was found; None when it was not to go on.

        Raises FailedPrecondition without requests, and for what takes longer than an hour.
        """
        places = self._recorded.places(who, table, asked, before_ms)
        if not places:
            raise FailedPrecondition(f"'{table.name}' has no such requests; the newest come into it within 10 s.")
        found = Comparison(tolerance=asked.tolerance)
        if not goes_on(0, len(places)):
            return None
        ends_at = time.monotonic() + LONGEST_S
        with self._rehearsals.opened(candidate, who) as rehearsal:
            for page in pages(places):
                for chunk in _chunks(self._recorded.read(who, table, page)):
                    ask_chunk(found, rehearsal, chunk)
                    if not goes_on(found.requests, len(places)):
                        return None
                    if time.monotonic() > ends_at and found.requests < len(places):
                        done = f"{found.requests} of {len(places)} requests"
                        raise FailedPrecondition(f"{done} took an hour, which is the longest; ask for fewer.")
        return found


def ask_chunk(found: Comparison, rehearsal: Rehearsal, chunk: Sequence[Recorded]) -> None:
    """Add what the candidate says to some requests."""
    replayable = [each for each in chunk if each.is_replayable]
    for recorded in chunk:
        if not recorded.is_replayable:
            found.leave_out(recorded)
    answers = rehearsal.ask([(each.content_type, each.request) for each in replayable])
    for recorded, answer in zip(replayable, answers, strict=True):
        found.add(recorded, _answered(answer))


def _answered(answer: Answer) -> Answered:
    return Answered(status=answer.status, body=answer.body, model_ms=answer.model_s * 1000)


def _chunks(requests: Sequence[Recorded]) -> list[Sequence[Recorded]]:
    return [requests[at : at + _CHUNK] for at in range(0, len(requests), _CHUNK)]
