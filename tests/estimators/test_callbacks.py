"""Callbacks and messages of fit and partial_fit."""

from collections import Counter

import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from skmixmate.datasets import make_sparse_mixture

from ..helpers import data, small


def test_scoring_monitor_scores_each_epoch():
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixmate = small().set_callbacks(monitor).fit(bunch.data, bunch.target)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log.task_name == "epoch"].adjusted_rand_score.tolist()
    assert len(epochs) == 3
    expected = adjusted_rand_score(bunch.target, mixmate.labels_)
    assert epochs[-1] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar(capsys, n_jobs):
    mixmate = small(n_init=3, n_jobs=n_jobs, init="kmeans")
    mixmate.set_callbacks(ProgressBar()).fit(data())
    lines = capsys.readouterr().out
    assert "MixMateClustering - fit" in lines
    # Only tasks with subtasks have a bar; the subtasks are three initializations.
    assert "MixMateClustering - initialization" in lines
    assert lines.count("100%") == 3


def test_callbacks_run_for_each_initialization_and_epoch():
    class Recorder(ProgressBar):
        tasks = Counter()

        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            self.tasks[context.task_name] += 1

    small(n_init=3, init="kmeans").set_callbacks(Recorder()).fit(data())
    assert Recorder.tasks["start"] == 3
    assert Recorder.tasks["epoch"] == 3


def test_callbacks_run_in_partial_fit(capsys):
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixmate = small(init_size=60).set_callbacks(monitor, ProgressBar())
    for part in (slice(0, 50), slice(50, 100), slice(100, 120)):
        mixmate.partial_fit(bunch.data[part], bunch.target[part])
    assert "MixMateClustering - partial_fit" in capsys.readouterr().out
    log = monitor.get_logs().data_as_pandas
    expected = adjusted_rand_score(bunch.target[part], mixmate.labels_)
    assert log.adjusted_rand_score.iloc[-1] == pytest.approx(expected)


def test_callbacks_are_torn_down_when_fit_raises():
    class Ended(ScoringMonitor):
        n_teardowns = 0

        def teardown(self, estimator, context):
            super().teardown(estimator, context)
            Ended.n_teardowns += 1

    mixmate = small(init=KMeans(2)).set_callbacks(Ended(scoring=None))
    with pytest.raises(ValueError, match="found 2 clusters"):
        mixmate.fit(data())
    assert Ended.n_teardowns == 1


def test_verbose_logs_one_line_per_epoch(caplog, capsys):
    small(verbose=1).fit(data())
    assert len(caplog.messages) == 3
    assert caplog.messages[-1].startswith("epoch 3 of 3: loss ")
    caplog.clear()
    small().fit(data())
    assert not caplog.messages
    assert not capsys.readouterr().out


def test_verbose_prints_without_a_logging_handler(monkeypatch, capsys):
    monkeypatch.setattr("logging.root.handlers", [])
    small(verbose=1).fit(data())
    assert capsys.readouterr().out.count("epoch") == 3
