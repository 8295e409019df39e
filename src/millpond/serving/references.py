"""How a served entity names its version: by a number, or by an alias or stage that the endpoint follows."""

import re
from dataclasses import dataclass
from enum import StrEnum

from millpond.kernel.errors import InvalidArgument

_URI = "models:/"
_STAGES = {"staging": "Staging", "production": "Production", "archived": "Archived"}
"""Source: MLflow, `model_version_stages.py`; as there, case does not matter."""


class ReferenceKind(StrEnum):
    """What can name a version."""

    ALIAS = "alias"
    STAGE = "stage"


@dataclass(frozen=True)
class Reference:
    """An alias, or a stage: then its newest version is meant, as in MLflow's `models:/NAME/STAGE`."""

    kind: ReferenceKind
    name: str

    def __str__(self) -> str:
        """As a client may write it in `entity_version`."""
        return f"@{self.name}" if self.kind is ReferenceKind.ALIAS else self.name

    @property
    def words(self) -> str:
        """As messages call it."""
        return f"{self.kind.value} '{self.name}'"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client wants served."""

    model: str
    version: str
    """A number; empty for a feature spec, and where a reference says which."""
    reference: Reference | None = None

    @property
    def label(self) -> str:
        """The version as a part of a name: that of a reference stays when it moves."""
        return self.reference.name if self.reference else self.version


def read_reference(text: str) -> Reference | None:
    """The reference that a version is given by; None for anything else."""
    if text.startswith("@") and 1 < len(text) <= 256 and "\0" not in text:
        return Reference(ReferenceKind.ALIAS, text[1:])
    stage = _STAGES.get(text.lower())
    return Reference(ReferenceKind.STAGE, stage) if stage else None


def read_asked(name: str, version: str) -> Asked:
    """A model and its version, as `entity_name` and `entity_version` or as one URI `models:/NAME@ALIAS`,
    `models:/NAME/STAGE` or `models:/NAME/NUMBER`.

    Raises InvalidArgument for an URI that is none of these, or with another version beside it.
    """
    if name.startswith(_URI):
        name, found = _of_uri(name)
        if version not in {"", found}:
            raise InvalidArgument(f"entity_name names version '{found[:80]}' and entity_version '{version[:80]}'.")
        version = found
    reference = read_reference(version)
    return Asked(model=name, version="" if reference else version, reference=reference)


def _of_uri(uri: str) -> tuple[str, str]:
    rest = uri.removeprefix(_URI).strip("/")
    by_alias = re.fullmatch(r"([^@/]+)(@[^@/]+)", rest)
    by_version = re.fullmatch(r"([^@/]+)/([^@/]+)", rest)
    found = by_alias or by_version
    if found is None:
        raise InvalidArgument(
            f"'{uri[:200]}' is no model version: write models:/NAME@ALIAS, models:/NAME/STAGE or models:/NAME/NUMBER."
        )
    return found[1], found[2]
