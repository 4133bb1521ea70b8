"""
A table with categories and missing entries
===========================================

Customers with numbers in different units, a category, a date and missing entries. A
ColumnTransformer turns them into numbers; see :doc:`/mixed_tables` for the choices.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skmixmate import MixMateClustering
from skmixmate.plotting import ConfusionDisplay

rng = np.random.default_rng(0)
group = rng.integers(3, size=600)
n_days = rng.gamma(4, np.array([30, 120, 120])[group])
customers = pd.DataFrame(
    {
        "spent": rng.lognormal(np.array([4, 5, 6])[group], 0.3),
        "age": np.array([25, 40, 65])[group] + 6 * rng.normal(size=600),
        "first_order": pd.Timestamp("2024-01-01") - pd.to_timedelta(n_days, "D"),
    }
)
shares = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])[group]
draw = (shares.cumsum(axis=1) > rng.random((600, 1))).argmax(axis=1)
customers["contact"] = np.array(["app", "web", "phone"], dtype=object)[draw]
customers.loc[rng.random(600) < 0.2, "age"] = np.nan
customers.loc[rng.random(600) < 0.2, "contact"] = None
print(customers.head())

# %%
# Amounts are spread over orders of magnitude: take logarithms. Dates become days. The
# contact is encoded by one column for each category; where it is missing, all of them
# are missing, so that the cluster is found from the other columns.


def zeros_to_missing(one_hot):
    return np.where(one_hot.any(axis=1, keepdims=True), one_hot, np.nan)


def days_until(dates):
    return (pd.Timestamp("2024-01-01") - dates).apply(lambda column: column.dt.days)


contact = make_pipeline(
    OneHotEncoder(
        categories=[["app", "web", "phone"]],
        handle_unknown="ignore",
        sparse_output=False,
    ),
    FunctionTransformer(zeros_to_missing, feature_names_out="one-to-one"),
)
numbers = make_pipeline(FunctionTransformer(np.log), StandardScaler())
dates = make_pipeline(FunctionTransformer(days_until), StandardScaler())
encoder = make_column_transformer(
    (numbers, ["spent"]),
    (StandardScaler(), ["age"]),
    (dates, ["first_order"]),
    (contact, ["contact"]),
)
pipeline = make_pipeline(encoder, MixMateClustering(3, random_state=0))
labels = pipeline.fit_predict(customers)
ConfusionDisplay.from_predictions(group, labels)

# %%
# The clusters in the units of the table. Missing entries are left out of the means.
customers["cluster"] = labels
print(customers.groupby("cluster")[["spent", "age"]].mean().round())
print(pd.crosstab(customers["cluster"], customers["contact"]))

# %%
# ``reconstruct`` imputes missing entries from the dictionary of the cluster: the most
# probable contact of each customer whose contact is not known.
Z = encoder.transform(customers)
is_missing = np.isnan(Z[:, -1])
imputed = pipeline[-1].reconstruct(Z)[is_missing, -3:].argmax(axis=1)
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
table = pd.crosstab(labels[is_missing], np.array(["app", "web", "phone"])[imputed])
table.plot.bar(ax=ax, xlabel="cluster", ylabel="customers", title="Imputed contact")
