"""Pipelines and grid searches."""

import numpy as np
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixmate.datasets import make_sparse_mixture

from ..helpers import data, small


def test_pipeline_and_grid_search():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    pipeline = make_pipeline(StandardScaler(), small(n_clusters=10, max_iter=1))
    grid = {
        "mixmateclustering__alpha": [0.5, 1.0],
        "mixmateclustering__n_atoms": [4, 8],
    }
    search = GridSearchCV(
        pipeline,
        grid,
        cv=2,
        scoring="normalized_mutual_info_score",
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.5
    search = GridSearchCV(small(), {"alpha": [0.5, 1.0]}).fit(data())
    assert np.isfinite(search.best_score_)


def test_progress_bar_in_a_pipeline_and_a_search(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    pipeline = make_pipeline(StandardScaler(), small())
    search = GridSearchCV(pipeline, {"mixmateclustering__alpha": [0.5, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(data())
    lines = capsys.readouterr().out
    # Two values on two folds, and the refit of the best.
    assert lines.count("MixMateClustering - training") == 5


def test_scoring_monitor_in_a_pipeline():
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    pipeline = make_pipeline(StandardScaler(), small().set_callbacks(monitor))
    pipeline.fit(bunch.data, bunch.target)
    assert (monitor.get_logs().data_as_pandas.task_name == "epoch").sum() == 3
