"""Structured logs: one JSON object a line on stderr, with credentials masked."""

import logging
import re
import sys
from typing import Any

from millpond.kernel.imports import hidden

with hidden("rich"):  # it makes colourful lines for terminals
    import structlog

_SECRETS = re.compile(
    r"((?:dapi|dose|mps-)[0-9a-f]{8})[0-9a-f]{20,}|(?i:(bearer|basic) )[A-Za-z0-9._~+/=-]{8,}"
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+"
)
_HINTS = ("dapi", "dose", "mps-", "bearer ", "basic ", "eyj")
"""Without one of them there is no secret."""


def configure_logs(level: str, *, process: str) -> None:
    """Send this process's logs, the standard library's included, to stderr as JSON lines."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, event: {**event, "process": process},
        structlog.processors.format_exc_info,
        _mask,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose keyword arguments become fields of the line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def mask_secrets(text: str) -> str:
    """The text with tokens and authorization headers replaced by a mark."""
    folded = text.casefold()
    if not any(hint in folded for hint in _HINTS):  # to look for them takes a tenth of the time
        return text
    return _SECRETS.sub(lambda match: f"{match.group(1) or match.group(2) or ''}[masked]", text)


def _mask(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {key: mask_secrets(value) if isinstance(value, str) else value for key, value in event.items()}
