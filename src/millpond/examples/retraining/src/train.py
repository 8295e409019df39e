"""train.py SCHEMA MODEL: tries each candidate, and registers the best as a new version."""

import sys
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.models import infer_signature
from pyspark.sql import SparkSession
from sklearn.model_selection import cross_val_score

import churn
import models

schema, model_name = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
rows = spark.table(f"{schema}.customers").orderBy(churn.KEY).toPandas()
rows = rows[~churn.is_exam(rows)]
known, left = churn.features(rows), rows[churn.LABEL]

mlflow.set_experiment(f"/Shared/{schema}")
with mlflow.start_run(run_name="retrain") as run:
    tried = []
    for parameters, pipeline in models.candidates():
        with mlflow.start_run(nested=True, run_name=parameters["model"]):
            auc = cross_val_score(pipeline, known, left, cv=3, scoring="roc_auc").mean()
            mlflow.log_params(parameters)
            mlflow.log_metric("cv_roc_auc", auc)
        print(f"{auc:.4f} {parameters}")
        tried.append((auc, parameters, pipeline))
    auc, parameters, pipeline = max(tried, key=lambda each: each[0])
    mlflow.log_params(parameters)
    mlflow.log_metric("cv_roc_auc", auc)
    pipeline.fit(known, left)
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=models.Churn(pipeline),
        code_paths=[str(Path(models.__file__))],
        signature=infer_signature(known, pipeline.predict_proba(known)[:, 1]),
        input_example=known.head(5),
        pip_requirements=[f"{name}=={version(name)}" for name in models.PACKAGES],
        registered_model_name=model_name,
    )
made = str(logged.registered_model_version)
dbutils.jobs.taskValues.set("version", made)
print(f"Version {made} of {model_name}: {parameters}, {auc:.4f} in cross-validation")
