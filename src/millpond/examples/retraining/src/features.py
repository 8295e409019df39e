"""features.py SCHEMA LANDING: the files that came become the table `customers`, and once the table `exam`."""

import sys

import pandas as pd
from pyspark.sql import SparkSession

from churn import is_exam, prepared

schema, landing = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()

files = sorted((each for each in dbutils.fs.ls(landing) if each.size), key=lambda each: each.modificationTime)
if not files:
    sys.exit(f"There is nothing in {landing} yet.")
raw = pd.concat([spark.read.parquet(f"{landing}/{each.name}").toPandas() for each in files], ignore_index=True)
customers = prepared(raw)
spark.createDataFrame(customers).write.mode("overwrite").saveAsTable(f"{schema}.customers")
print(f"{len(customers)} customers from {len(files)} files")

if not spark.catalog.tableExists(f"{schema}.exam"):  # all models sit the same one, so it stays as it is
    exam = customers[is_exam(customers)].drop(columns=["customer_id"])
    spark.createDataFrame(exam).write.saveAsTable(f"{schema}.exam")
    print(f"{len(exam)} of them are the exam")
