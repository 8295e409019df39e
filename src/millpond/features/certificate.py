"""The proof that a training set was put together rightly, made while it was and logged with the run."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FILE = "feature_certificate.json"
SAMPLE = 100
"""How many labels are looked up again by brute force."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What was seen of one lookup."""

    table: str
    table_version: int
    labels: int
    matched: int
    newest_lead_us: int | None
    """The greatest (time of a value − time of its label), in microseconds; None without a time or a match."""
    newest_known_lead_us: int | None
    """The same for the time at which the value was known."""
    rechecked: int
    wrong: int


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a training set is made of, and that nothing was lost and nothing is from the future."""

    rows_in: int
    rows_out: int
    lookups: tuple[Lookup, ...]
    digest: str
    """Of the columns and all values: `sha256:` of a local frame in its order, `xxhash64-sum:` of a Spark frame."""

    @property
    def faults(self) -> list[str]:
        """What does not hold; empty for a good training set."""
        found = [] if self.rows_in == self.rows_out else [f"{self.rows_in} labels became {self.rows_out} rows"]
        for each in self.lookups:
            leads = {"newer than their labels": each.newest_lead_us, "known only later": each.newest_known_lead_us}
            found += [f"values of {each.table} are {what}" for what, lead in leads.items() if (lead or 0) > 0]
            if each.wrong:
                found.append(f"{each.wrong} of {each.rechecked} rechecked values of {each.table} are wrong")
        return found

    def checked(self) -> "Certificate":
        """Itself. Raises RuntimeError when something does not hold."""
        if self.faults:
            raise RuntimeError(f"The training set is wrong and must not be used: {'; '.join(self.faults)}.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Itself as JSON has it."""
        told: Mapping[str, Any] = asdict(self)
        return {**told, "lookups": [asdict(each) for each in self.lookups], "holds": not self.faults}


def sample_of(rows: int) -> Sequence[int]:
    """The positions of the labels to check, the same ones for the same number of labels."""
    return sorted(random.Random(rows).sample(range(rows), min(rows, SAMPLE)))  # noqa: S311  a sample, no secret


def digest(table: Any) -> str:
    """SHA-256 over an Arrow table: for each column its name, its type, which values are there, and those values.

    The values as Arrow's IPC format has them, without what happens to lie under a NULL.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        for values in (pc.is_valid(column), column.drop_null()):
            batch = pa.record_batch([values], names=[name])
            found.update(str(values.type).encode() + batch.serialize())
    return "sha256:" + found.hexdigest()
