"""The JSON of feature tables, which is ours alone."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millpond.feature_tables.domain import Consumers, Feature, FeaturesOfTable, FeatureTable, ModelFeatures
from millpond.feature_tables.statistics import Distribution, Statistics, Summary
from millpond.kernel.clock import rfc3339
from millpond.lineage.uses import Source
from millpond.online.tables import OnlineTable


def table_json(found: FeatureTable, written: Mapping[str, datetime]) -> dict[str, Any]:
    """A feature table in a list; what is not known of it is left out."""
    last_written = written.get(found.table.id)
    told = {
        "comment": found.table.comment,
        "timeseries_column": found.time,
        "known_at_column": found.known_at,
        "certification_status": found.certification,
        "tags": [{"key": key, "value": value} for key, value in sorted(found.tags.own.items())],
        "last_written": rfc3339(last_written) if last_written else None,
        "online_tables": [_online_json(each) for each in found.online],
    }
    return {
        "name": str(found.table.name),
        "owner": found.table.owner,
        "primary_keys": list(found.keys),
        "features": len(found.columns),
        "consumers": consumers_json(found.consumers),
        **{key: value for key, value in told.items() if value},
    }


def features_json(found: FeaturesOfTable, written: Mapping[str, datetime]) -> dict[str, Any]:
    """A feature table with its features."""
    features = [_feature_json(each) for each in found.features]
    return {**table_json(found.described, written), "features": features}


def consumers_json(consumers: Consumers) -> dict[str, Any]:
    """Who uses something; `is_cut` where there are more, who used it longer ago."""
    return {
        "models": [{"name": name, "versions": list(versions)} for name, versions in consumers.models.items()],
        "endpoints": list(consumers.endpoints),
        "training_runs": [{"run_id": each.key, "name": each.name} for each in consumers.runs],
        "is_cut": consumers.is_cut,
    }


def model_json(found: ModelFeatures) -> dict[str, Any]:
    """What a model version uses of a table."""
    features = None if found.features is None else list(found.features)
    return {"table_name": str(found.table.name), "features": features}


def statistics_json(found: Statistics) -> dict[str, Any]:
    """What one version of a table is like."""
    return {
        "version": found.version,
        "committed_at": rfc3339(found.committed_at) if found.committed_at else None,
        "rows": found.rows,
        "is_sample": found.is_sample,
        "columns": [_summary_json(each) for each in found.summaries.values()],
    }


def distribution_json(found: Distribution) -> dict[str, Any]:
    """How values are spread: by bins between `edges`, or by `labels`, the values themselves."""
    return {
        "column": found.column,
        "kind": found.kind.value,
        "labels": list(found.labels),
        "edges": list(found.edges),
        "versions": [
            {"version": each.version, "counts": list(each.counts), "others": each.others} for each in found.versions
        ],
    }


def _feature_json(feature: Feature) -> dict[str, Any]:
    return {
        "name": feature.column.name,
        "type": feature.column.type_text,
        "comment": feature.column.comment,
        "tags": [{"key": key, "value": value} for key, value in sorted(feature.tags.items())],
        "sources": [_source_json(each) for each in feature.sources],
        "consumers": consumers_json(feature.consumers),
        "is_unused": feature.consumers.is_none,
    }


def _source_json(source: Source) -> dict[str, Any]:
    return {"kind": source.node.kind.value, "name": source.node.name, "column": source.column}


def _online_json(table: OnlineTable) -> dict[str, Any]:
    told = {"name": table.name, "state": table.state.value, "version": table.version}
    return told | ({"data_as_of": rfc3339(table.committed_at)} if table.committed_at else {})


def _summary_json(summary: Summary) -> dict[str, Any]:
    told = {
        "distinct": summary.distinct,
        "min": summary.minimum,
        "max": summary.maximum,
        "mean": summary.mean,
        "stddev": summary.stddev,
        "quartiles": list(summary.quartiles) or None,
        "not_finite": summary.not_finite or None,
    }
    return {
        "name": summary.column, "kind": summary.kind.value, "type": summary.type, "values": summary.values,
        "nulls": summary.nulls, **{key: value for key, value in told.items() if _is_told(value)},
    }  # fmt: skip


def _is_told(value: Any) -> bool:
    """JSON has no NaN, as the deviation of a single value is one."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
