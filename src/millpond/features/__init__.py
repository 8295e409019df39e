"""The feature store as its users import it: `from millpond.features import FeatureEngineeringClient, FeatureLookup`.

Nouns: a *feature table* is any Delta table with a primary key; a *lookup* asks for features of one; a *declared
feature* is an aggregation of a table's rows over a window of time; a *training set* is labels with their features as
they were at each label's time, and carries a *certificate*; a *feature spec* is what a model needs to find its features
again, and travels with it.
Invariants: each label is one row of the training set, in order; no value is newer than its label; data comes through
the gateway as the user may see it, never from files.
This package runs on users' machines: it speaks HTTP and Spark Connect, imports no room and, when it is imported,
nothing heavy. Rooms may use it: there is no other spec of features and no other point-in-time join.
Read `lookups.py` and `declared.py`, then `planning.py`, then `client.py`.
"""

from millpond.features.client import FeatureEngineeringClient
from millpond.features.declared import AggregationFunction, DeltaTableSource, Feature
from millpond.features.declared_features import MaterializedFeature, OfflineStoreConfig
from millpond.features.endpoints import EndpointCoreConfig, FeatureServingEndpoint, ServedEntity
from millpond.features.legacy import FeatureStoreClient
from millpond.features.lookups import FeatureFunction, FeatureLookup
from millpond.features.tables import FeatureTable
from millpond.features.training_set import TrainingSet
from millpond.features.windows import (
    ApproxCountDistinct,
    ApproxPercentile,
    Avg,
    ContinuousWindow,
    Count,
    First,
    Last,
    Max,
    Min,
    RollingWindow,
    SlidingWindow,
    StddevPop,
    StddevSamp,
    Sum,
    TumblingWindow,
    VarPop,
    VarSamp,
)

__all__ = [
    "AggregationFunction",
    "ApproxCountDistinct",
    "ApproxPercentile",
    "Avg",
    "ContinuousWindow",
    "Count",
    "DeltaTableSource",
    "EndpointCoreConfig",
    "Feature",
    "FeatureEngineeringClient",
    "FeatureFunction",
    "FeatureLookup",
    "FeatureServingEndpoint",
    "FeatureStoreClient",
    "FeatureTable",
    "First",
    "Last",
    "MaterializedFeature",
    "Max",
    "Min",
    "OfflineStoreConfig",
    "RollingWindow",
    "ServedEntity",
    "SlidingWindow",
    "StddevPop",
    "StddevSamp",
    "Sum",
    "TrainingSet",
    "TumblingWindow",
    "VarPop",
    "VarSamp",
]
