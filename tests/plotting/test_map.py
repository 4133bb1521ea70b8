import numpy as np
import pytest
from sklearn.datasets import make_blobs

from skmixmate import MixMateClustering
from skmixmate.plotting import MapDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@pytest.fixture(scope="module")
def model():
    X, y = make_blobs(400, 3, centers=4, random_state=0)
    return X, y, MixMateClustering(4, n_atoms=0, random_state=0).fit(X)


def distances(places):
    return np.linalg.norm(places[:, None] - places, axis=2)


def test_similar_clusters_are_near(model):
    X, _, mixmate = model
    display = MapDisplay.from_estimator(mixmate, X)
    medians = [np.median(display.points[display.labels == k], axis=0) for k in range(4)]
    far = np.triu_indices(4, 1)
    on_map = distances(np.stack(medians))[far]
    in_data = distances(mixmate.intercepts_)[far]
    assert np.corrcoef(on_map, in_data)[0, 1] > 0.9


def test_doubtful_samples_lie_between_their_clusters(model):
    X, _, mixmate = model
    first, second = mixmate.intercepts_[:2]
    path = first + np.linspace(0, 1, 21)[:, None] * (second - first)
    display = MapDisplay.from_estimator(mixmate, np.concatenate([X, path]))
    on_map = display.points[-21:]
    middle = np.linalg.norm(on_map[10] - (on_map[0] + on_map[-1]) / 2)
    assert middle < 0.2 * np.linalg.norm(on_map[0] - on_map[-1])


def test_clusters_are_numbered_and_classes_have_a_legend(model):
    X, y, mixmate = model
    display = MapDisplay.from_estimator(mixmate, X, y)
    assert sorted(text.get_text() for text in display.ax_.texts) == list("0123")
    legend = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list("0123")
    assert MapDisplay.from_estimator(mixmate, X).ax_.get_legend() is None


def test_a_cluster_without_samples_has_no_number(model):
    X, _, mixmate = model
    display = MapDisplay.from_estimator(mixmate, X[mixmate.labels_ != 2])
    assert sorted(text.get_text() for text in display.ax_.texts) == list("013")
    assert np.isfinite(display.points).all()


def test_invalid_input_is_named(model):
    X, y, mixmate = model
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MapDisplay.from_estimator(mixmate, X, y[:-1])
    single = MixMateClustering(1, n_atoms=0, max_iter=0).fit(X)
    with pytest.raises(ValueError, match="n_clusters=1"):
        MapDisplay.from_estimator(single, X)
