"""A pipeline of 12 tables and a view, mixing SQL and DataFrames, as a user writes one; see `truth.txt`.

Raw files and tables → cleaned → joined → reported. Nothing here is written for lineage.
"""

from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

SQL_TABLES = ("orders", "customers", "products", "big_orders", "spend", "ranked", "flat_tags", "report", "totals")
"""Written by SQL text alone; the others by DataFrames."""


def build(spark: SparkSession, where: str, files: str) -> None:
    """Make and fill everything in the schema `where` (catalog.schema); `files` is a directory of a volume."""
    spark.sql(f"USE {where}")
    _raw(spark, files)
    _cleaned(spark)
    _joined(spark)
    _reported(spark)


def _raw(spark: SparkSession, files: str) -> None:
    spark.sql(
        "CREATE TABLE raw_orders (id INT, customer INT, product INT, amount DOUBLE, placed DATE, tags ARRAY<STRING>)"
    )
    rows = ("(1, 1, 1, 9.5, DATE'2026-01-01', array('a', 'b'))", "(2, 2, 1, 120.0, DATE'2026-01-02', array('c'))",
            "(3, 1, 2, 300.0, DATE'2026-01-03', array())")  # fmt: skip
    spark.sql(f"INSERT INTO raw_orders VALUES {', '.join(rows)}")
    people = [(1, "Ada", "Lovelace", "UK"), (2, "Alan", "Turing", "UK"), (3, "Grace", "Hopper", "US")]
    spark.createDataFrame(people, "id INT, first STRING, last STRING, country STRING").write.mode("overwrite").csv(
        f"{files}/people", header=True
    )
    frame = spark.read.csv(f"{files}/people", header=True, schema="id INT, first STRING, last STRING, country STRING")
    frame.write.saveAsTable("people")
    spark.sql("CREATE TABLE products (sku INT, label STRING, price DOUBLE)")
    spark.sql("INSERT INTO products (price, sku, label) SELECT 10.0, 1, 'cup' UNION ALL SELECT 99.0, 2, 'pot'")


def _cleaned(spark: SparkSession) -> None:
    spark.sql("CREATE TABLE orders AS SELECT id AS order_id, customer, product, amount, placed, "
              "year(placed) AS placed_year, tags FROM raw_orders WHERE amount > 0")  # fmt: skip
    spark.sql("CREATE TABLE customers AS SELECT p.id, concat_ws(' ', p.first, p.last) AS name, "
              "upper(p.country) AS country FROM people p")  # fmt: skip
    spark.sql("CREATE TABLE big_orders (order_id INT, customer INT, amount DOUBLE)")
    spark.sql("INSERT INTO big_orders WITH o AS (SELECT * FROM orders), big AS (SELECT order_id, customer, amount "
              "FROM o WHERE amount > (SELECT avg(amount) FROM raw_orders)) SELECT * FROM big")  # fmt: skip
    spark.sql("CREATE TABLE flat_tags AS SELECT order_id, tag, upper(tag) AS loud, length(tag) AS size "
              "FROM orders LATERAL VIEW explode(tags) t AS tag")  # fmt: skip


def _joined(spark: SparkSession) -> None:
    orders, customers = spark.table("orders"), spark.table("customers")
    enriched = (
        orders.join(customers, orders.customer == customers.id, "left")
        .join(spark.table("products").withColumnRenamed("sku", "product"), "product")
        .withColumn("margin", F.col("amount") - F.col("price"))
        .select("order_id", customers["name"].alias("buyer"), "country", "label", "margin", orders["amount"])
    )
    enriched.write.saveAsTable("enriched")
    spark.sql("CREATE VIEW spend AS SELECT c.name, sum(o.amount) AS total, count(*) AS orders "
              "FROM orders o JOIN customers c ON o.customer = c.id GROUP BY c.name")  # fmt: skip
    spark.sql("CREATE TABLE ranked AS SELECT name, total, rank() OVER (PARTITION BY country ORDER BY total DESC) "
              "AS place FROM spend JOIN (SELECT name, country FROM customers) USING (name)")  # fmt: skip


def _reported(spark: SparkSession) -> None:
    def picked(batches: Any) -> Any:
        for batch in batches:
            yield batch[["id", "amount"]]

    by_country = (
        spark.table("enriched").groupBy("country").agg(F.sum("amount").alias("amount"), F.count("*").alias("n"))
    )
    by_country.writeTo("by_country").create()
    latest = Window.partitionBy("buyer").orderBy(F.desc("order_id"))
    (
        spark.table("enriched")
        .withColumn("at", F.row_number().over(latest))
        .filter("at = 1")
        .selectExpr("buyer", "label AS last_label", "round(margin, 1) AS last_margin")
        .write.saveAsTable("last_orders")
    )
    spark.table("raw_orders").mapInPandas(picked, "id INT, amount DOUBLE").write.saveAsTable("scored")
    spark.sql("CREATE TABLE report (name STRING, total DOUBLE, amount DOUBLE, note STRING)")
    spark.sql("MERGE INTO report r USING spend s ON r.name = s.name WHEN MATCHED THEN UPDATE SET total = s.total "
              "WHEN NOT MATCHED THEN INSERT (name, total) VALUES (s.name, s.total)")  # fmt: skip
    spark.sql("UPDATE report SET note = concat(name, '!'), amount = "
              "(SELECT max(o.amount) FROM orders o) WHERE total > 1")  # fmt: skip
    spark.sql("CREATE TABLE totals (country STRING, amount DOUBLE, source STRING)")
    spark.sql("INSERT INTO totals SELECT country, amount, 'all' FROM by_country "
              "UNION ALL SELECT c.country, o.amount, o.label FROM enriched o JOIN customers c "
              "ON c.name = o.buyer")  # fmt: skip
