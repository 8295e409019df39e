"""What a model needs to find its features again: the feature spec, `feature_spec.yaml` in the model's directory."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond.features.declared import Feature, from_json, to_json
from millpond.features.lookups import FeatureFunction, FeatureLookup
from millpond.features.planning import Wanted

FILE = "feature_spec.yaml"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Lookups and functions in order, and what came of them."""

    wanted: tuple[Wanted, ...]
    features: tuple[str, ...] = ()
    """What the model is given, in order."""
    labels: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    """The version of each table that the training set was made of."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are looked up in or aggregated, each once."""
        return tuple(dict.fromkeys(filter(None, map(table_of, self.wanted))))

    @property
    def outputs(self) -> frozenset[str]:
        """The columns that are made, where the lookups name their features."""
        made: set[str] = set()
        for each in self.wanted:
            if isinstance(each, FeatureLookup):
                made |= {each.rename_outputs.get(name, name) for name in each.feature_names or ()}
            else:
                made.add(each.output)
        return frozenset(made)

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that are called, each once."""
        return tuple(dict.fromkeys(each.udf_name for each in self.wanted if isinstance(each, FeatureFunction)))

    def to_yaml(self) -> str:
        """Itself as text."""
        import yaml  # type: ignore[import-untyped]

        told = {
            "format": FORMAT,
            "features": [_told(each) for each in self.wanted],
            "inputs": list(self.features),
            "labels": list(self.labels),
            "exclude_columns": list(self.excluded),
            "table_versions": dict(self.versions),
        }
        return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))


def read_spec(text: str) -> FeatureSpec:
    """A spec from its text. Raises ValueError for one of a later format."""
    import yaml

    told = yaml.safe_load(text)
    if told.get("format") != FORMAT:
        raise ValueError(f"The feature spec has format {told.get('format')}; this Millpond reads {FORMAT}.")
    return FeatureSpec(
        wanted=tuple(_wanted(each) for each in told["features"]),
        features=tuple(told["inputs"]),
        labels=tuple(told["labels"]),
        excluded=tuple(told["exclude_columns"]),
        versions=told["table_versions"],
    )


def table_of(wanted: Wanted) -> str | None:
    """The table that is read for it, if one is."""
    if isinstance(wanted, Feature):
        return wanted.source.full_name
    return wanted.table_name if isinstance(wanted, FeatureLookup) else None


def _told(wanted: Wanted) -> dict[str, Any]:
    if isinstance(wanted, Feature):
        return {"declared": to_json(wanted)}
    if isinstance(wanted, FeatureFunction):
        bindings = dict(wanted.input_bindings)
        return {"udf_name": wanted.udf_name, "input_bindings": bindings, "output_name": wanted.output_name}
    window = wanted.lookback_window
    return {
        "table_name": wanted.table_name,
        "lookup_key": list(wanted.lookup_key),
        "feature_names": None if wanted.feature_names is None else list(wanted.feature_names),
        "rename_outputs": dict(wanted.rename_outputs),
        "timestamp_lookup_key": wanted.timestamp_lookup_key,
        "lookback_window_s": None if window is None else window.total_seconds(),
        "default_values": dict(wanted.default_values),
    }


def _wanted(told: dict[str, Any]) -> Wanted:
    if "declared" in told:
        return from_json(told["declared"])
    if "udf_name" in told:
        return FeatureFunction(**told)
    window = told.pop("lookback_window_s")
    return FeatureLookup(**told, lookback_window=None if window is None else datetime.timedelta(seconds=window))
