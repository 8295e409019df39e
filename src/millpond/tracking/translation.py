"""Errors of MLflow's stores as ours, for callers inside this server."""

from collections.abc import Iterator
from contextlib import contextmanager

from millpond.kernel.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

_ERRORS: tuple[type[MillpondError], ...] = (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
_BY_CODE = {error.code: error for error in _ERRORS} | {"BAD_REQUEST": InvalidArgument}


@contextmanager
def millpond_errors() -> Iterator[None]:
    """Errors of MLflow leave the block as ours."""
    from mlflow.exceptions import MlflowException  # loaded in the background when the server starts

    try:
        yield
    except MlflowException as error:
        raise _BY_CODE.get(error.error_code, MillpondError)(error.message) from error
