"""JSON that users' code wrote, made fit to be kept. Standard library only."""

import math
from typing import Any


def storable(value: Any) -> Any:
    """A JSON value as databases and answers take it: without NUL, and without halves of characters; NaN and infinities
    as texts. Raises RecursionError for what is nested some hundred times."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value
