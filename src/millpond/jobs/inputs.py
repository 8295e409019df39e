"""What pydantic models of a job's settings have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from millpond.kernel.errors import NotImplementedHere

_KEPT = frozenset({"budget_policy_id", "deployment", "disable_auto_optimization", "edit_mode", "format", "git_branch",
                   "performance_target", "usage_policy_id"})  # fmt: skip
"""What has no meaning here and does no harm."""
_EMPTY: tuple[Any, ...] = (None, [], {}, "")
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]


class Known(BaseModel):
    """Takes unknown fields, to refuse them by name."""

    model_config = ConfigDict(extra="allow")

    def refuse_unknown(self, what: str) -> None:
        """Raises NotImplementedHere for the first field that Millpond does not have."""
        for name, value in (self.model_extra or {}).items():
            if name not in _KEPT and value not in _EMPTY:
                raise NotImplementedHere(f"{what} has {name[:60]}, which this Millpond's jobs do not have.")


class Strict(BaseModel):
    """Takes no unknown fields."""

    model_config = ConfigDict(extra="forbid")
