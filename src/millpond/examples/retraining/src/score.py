"""score.py SCHEMA MODEL: the champion's probabilities for all customers, as the table `scores`."""

import sys

import mlflow
from mlflow import MlflowClient
from pyspark.sql import SparkSession

import churn

schema, model_name = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
champion = MlflowClient().get_model_version_by_alias(model_name, "champion").version
model = mlflow.pyfunc.load_model(f"models:/{model_name}/{champion}")

customers = spark.table(f"{schema}.customers").toPandas()
scores = customers[[churn.KEY]].assign(leaves=model.predict(churn.features(customers)), version=int(champion))
spark.createDataFrame(scores).write.mode("overwrite").saveAsTable(f"{schema}.scores")
print(f"{len(scores)} customers scored by version {champion}, {(scores.leaves > 0.5).sum()} of them may leave")
