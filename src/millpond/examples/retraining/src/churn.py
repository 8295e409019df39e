"""What is known of customers who leave, as plain functions of data frames."""

import pandas as pd

KEY, LABEL = "customer_id", "churn"
EXAM_OF = 5
"""One customer of so many is never learned from."""


def prepared(raw: pd.DataFrame) -> pd.DataFrame:
    """Customers as the models take them, the label 0 or 1; the latest of several rows of one customer."""
    rows = raw.drop_duplicates(KEY, keep="last").copy()
    rows[LABEL] = (rows[LABEL] == "Yes").astype("int64")
    rows["total_charges"] = rows["total_charges"].fillna(0.0)
    rows["paid_per_month"] = rows["total_charges"] / rows["tenure"].clip(lower=1)
    return rows.reset_index(drop=True)


def is_exam(rows: pd.DataFrame) -> pd.Series:
    """Which customers are in the exam: the same ones whenever they are asked for."""
    return rows[KEY] % EXAM_OF == 0


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that models see."""
    return rows.drop(columns=[KEY, LABEL])
