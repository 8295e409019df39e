"""What goes back to the server, and in which words. Without MLflow, which not every worker needs."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millpond.serving.worker.redaction import Redaction

_MAX_MESSAGE = 4000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back: a header for the server and the bytes for the client."""

    header: dict[str, Any]
    body: bytes
    out_of_memory: bool = False


class Refusal(Exception):
    """A request that cannot be answered, in words for its sender."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Unsuited(Exception):
    """Not for the quick path: a request, or a model with the reason."""


def answered(work: Callable[[], bytes], redaction: Redaction, content_type: str = "application/json") -> Answer:
    """The answer of some work, which may refuse or fail; whoever asked is told in any case."""
    try:
        return Answer(header={"status": 200, "content_type": content_type}, body=work())
    except Refusal as refusal:
        return _refused(str(refusal), refusal.code, refusal.status, redaction)
    except MemoryError:
        refused = _refused("The model ran out of memory.", "INTERNAL_ERROR", 500, redaction)
        return Answer(header=refused.header, body=b"", out_of_memory=True)
    except Exception as error:
        traceback.print_exc()
        message = f"The model's process failed on the request with {type(error).__name__}; its log says more."
        return _refused(message, "INTERNAL_ERROR", 500, redaction)


def _refused(message: str, code: str, status: int, redaction: Redaction) -> Answer:
    message = redaction.clean(message)
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + " ..."
    print(f"answered {status} {code}: {message}", file=sys.stderr)
    return Answer(header={"status": status, "error_code": code, "message": message}, body=b"")
