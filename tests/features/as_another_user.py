"""Run in a process of its own, with another user's environment: what that user's training sets hold. Prints JSON."""

import json
import sys

import polars as pl
import pyarrow as pa
from pyspark.sql import SparkSession

from millpond.features import FeatureEngineeringClient, FeatureLookup

shop = sys.argv[1]
fe = FeatureEngineeringClient()
city = FeatureLookup(table_name=f"{shop}.people", lookup_key="id", feature_names="city")
asked = pa.table({"id": [1, 2]})
spark = SparkSession.builder.getOrCreate()
told = {}
for kind, frame in (("local", pl.DataFrame(asked)), ("spark", spark.createDataFrame(asked))):
    made = fe.create_training_set(df=frame, feature_lookups=[city])
    found = made.load_df()
    rows = found.rows() if kind == "local" else [tuple(row) for row in found.collect()]
    told[kind] = {"rows": rows, "rechecked": made.certificate.lookups[0].rechecked}
try:
    spent = FeatureLookup(table_name=f"{shop}.spent", lookup_key="id", timestamp_lookup_key="at")
    fe.create_training_set(df=pl.DataFrame({"id": [2], "at": ["x"]}), feature_lookups=[spent])
except Exception as error:
    told["refused"] = f"{type(error).__name__}: {error}"[:300]
print(json.dumps(told))
spark.stop()
