import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture

pytestmark = pytest.mark.exhaustive


def mixture(**params):
    return make_sparse_mixture(300, 16, n_atoms=4, random_state=0, **params)


def small(**params):
    defaults = {"n_atoms": 4, "max_iter": 4, "tol": 0, "batch_size": 50}
    defaults |= {"supervision": "auto", "random_state": 0}
    return MixMateClustering(3, **{**defaults, **params})


def with_few_labels(y, n_each=10):
    """Keep the first labels of each class; -1 for all other rows."""
    known = np.full(len(y), -1)
    for label in np.unique(y):
        known[np.flatnonzero(y == label)[:n_each]] = label
    return known


@pytest.fixture(scope="module")
def fitted():
    """Return a fit to a few labels, with X and y."""
    bunch = mixture()
    known = with_few_labels(bunch.target)
    return small().fit(bunch.data, known), bunch.data, bunch.target, known


def test_clusters_are_classes(fitted):
    mixmate, _, y, known = fitted
    is_open = known < 0
    assert np.mean(mixmate.labels_[is_open] == y[is_open]) > 0.9


def test_the_order_of_classes_is_kept(fitted):
    _, X, y, known = fitted
    permuted = np.array([2, 0, 1])[y]
    mixmate = small().fit(X, np.where(known >= 0, permuted, -1))
    assert np.mean(mixmate.labels_ == permuted) > 0.9


def test_other_rows_are_labelled_as_predicted(fitted):
    mixmate, X, _, known = fitted
    is_open = known < 0
    np.testing.assert_array_equal(mixmate.labels_[is_open], mixmate.predict(X)[is_open])


def test_known_rows_keep_their_label_even_if_it_is_wrong(fitted):
    _, X, y, known = fitted
    wrong = known.copy()
    wrong[np.flatnonzero(known == 0)[0]] = 2
    labels = small().fit(X, wrong).labels_
    np.testing.assert_array_equal(labels[wrong >= 0], wrong[wrong >= 0])
    assert np.mean(labels == y) > 0.85


def test_tabular_data():
    X, y = load_iris(return_X_y=True)
    known = with_few_labels(y)
    mixmate = MixMateClustering(3, supervision="auto", random_state=0).fit(X, known)
    assert np.mean(mixmate.labels_ == y) > 0.93


@pytest.mark.slow
def test_images():
    X, y = load_digits(return_X_y=True)
    known = with_few_labels(y)
    mixmate = MixMateClustering(10, supervision="auto", random_state=0).fit(X, known)
    assert mixmate.representation_ is not None
    assert np.mean(mixmate.labels_ == y) > 0.91  # without labels .90


def crosses(n_images, random_state):
    """Draw images with a cross at one of three places, on waves of random phases."""
    rng = np.random.default_rng(random_state)
    y = rng.integers(3, size=n_images)
    phases, heights = 7 * rng.random((2, 2, n_images, 1, 1))
    rows, columns = np.mgrid[:12, :12]
    images = rng.normal(scale=0.1, size=(n_images, 12, 12))
    images += 0.4 * heights[0] * np.sin(rows / 2 + phases[0])
    images += 0.4 * heights[1] * np.sin(columns / 2 + phases[1])
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    corners = np.array([(1, 1), (5, 7), (8, 3)])[y]
    for image, (top, left) in zip(images, corners, strict=True):
        image[top : top + 3, left : left + 3] += 1.2 * cross
    return images.reshape(n_images, -1), y


@pytest.mark.slow
def test_directions_in_which_images_of_one_class_differ_count_less():
    X, y = crosses(600, random_state=5)
    mixmate = MixMateClustering(
        3, image_shape=(12, 12), supervision="auto", random_state=0
    ).fit(X, with_few_labels(y))
    assert np.mean(mixmate.labels_ == y) > 0.72  # .67 if all directions count the same


# --- what is not labelled ------------------------------------------------------------


def test_labels_are_ignored_by_default(fitted):
    _, X, y, _ = fitted
    ignored, without = (
        small(supervision="ignore").fit(X, labels) for labels in (y, None)
    )
    np.testing.assert_array_equal(ignored.dictionaries_, without.dictionaries_)
    np.testing.assert_array_equal(ignored.labels_, without.labels_)


@pytest.mark.parametrize("labels", [None, np.full(300, -1)])
def test_without_a_known_label_the_fit_is_unsupervised(labels, fitted):
    _, X, _, _ = fitted
    expected = small(supervision="ignore").fit(X)
    mixmate = small().fit(X, labels)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_classes_without_a_label_are_found(missing):
    X, y = load_iris(return_X_y=True)
    known = with_few_labels(y)
    known[known == missing] = -1
    mixmate = MixMateClustering(3, supervision="auto", random_state=0).fit(X, known)
    assert np.mean(mixmate.labels_ == y) > 0.9


def test_the_number_of_clusters_is_at_least_that_of_the_classes():
    X, y = np.random.default_rng(0).normal(size=(300, 4)), np.arange(300) % 25
    labels = np.where(np.arange(300) < 100, y, -1)
    mixmate = MixMateClustering(
        "auto", supervision="auto", max_iter=0, random_state=0
    ).fit(X, labels)
    assert mixmate.n_clusters_ == 25
    assert len(mixmate.n_clusters_scores_["n_clusters"]) > 0


def test_all_rows_may_be_labelled(fitted):
    _, X, y, _ = fitted
    mixmate = small().fit(X, y)
    np.testing.assert_array_equal(mixmate.labels_, y)
    assert np.mean(mixmate.predict(X) == y) > 0.95


def test_a_single_cluster():
    X = mixture().data
    mixmate = small().set_params(n_clusters=1).fit(X, np.zeros(len(X), dtype=int))
    assert set(mixmate.labels_) == {0}


# --- with everything else ------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"n_init": 2},
        {"weights": "learned", "noise_variance": "auto"},
        {"init_size": 60},
        {"likelihood": "student_t"},
    ],
)
def test_other_parameters(params, fitted):
    _, X, y, known = fitted
    mixmate = small(**params).fit(X, known)
    assert np.mean(mixmate.labels_ == y) > 0.9


def test_counts():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    counts = rng.poisson(rng.gamma(2, size=(3, 12))[y])
    mixmate = small(likelihood="poisson", n_atoms=1).fit(counts, with_few_labels(y))
    assert np.mean(mixmate.labels_ == y) > 0.9


def test_missing_entries(fitted):
    _, X, y, known = fitted
    missing = np.random.default_rng(0).random(X.shape) < 0.02
    mixmate = small().fit(np.where(missing, np.nan, X), known)
    assert np.mean(mixmate.labels_ == y) > 0.9


def test_an_array_as_init_decides_the_other_rows(fitted):
    _, X, y, known = fitted
    init = np.stack([X[y == label][:4] for label in range(3)])
    mixmate = small(init=init).fit(X, known)
    np.testing.assert_array_equal(mixmate.labels_[known >= 0], known[known >= 0])
    assert np.mean(mixmate.labels_ == y) > 0.9


def test_a_warm_start_keeps_known_rows(fitted):
    mixmate, X, y, known = fitted
    again = clone(mixmate).fit(X, known).set_params(warm_start=True)
    wrong = np.where(np.arange(len(y)) == 0, (y[0] + 1) % 3, -1)
    assert again.fit(X, wrong).labels_[0] == wrong[0]
    assert np.mean(again.labels_ == y) > 0.9


def test_labels_in_other_containers(fitted):
    mixmate, X, _, known = fitted
    for labels in (known.tolist(), torch.from_numpy(known), known.astype(np.int8)):
        other = small().fit(X, labels)
        np.testing.assert_array_equal(other.labels_, mixmate.labels_)


def test_rows_that_are_read_from_a_file(fitted, tmp_path):
    mixmate, X, _, known = fitted
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    other = small().fit(mapped, known)
    np.testing.assert_array_equal(other.dictionaries_, mixmate.dictionaries_)


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(7, dtype=int), r"y has shape \(7,\).*\(n_samples,\) = \(300,\)"),
        (np.zeros((300, 2), dtype=int), r"y has shape \(300, 2\)"),
        (np.zeros(300), r"integers.*dtype is float64"),
        (np.full(300, np.nan), r"replace missing ones by -1"),
        (np.ones(300, dtype=bool), r"dtype is bool"),
        (np.array(["cat"] * 300), r"LabelEncoder"),
        (np.full(300, 3), r"class 3.*n_clusters=3 are numbered from 0 to 2"),
        (np.full(300, -2), r"y contains -2"),
    ],
)
def test_invalid_labels_raise_only_if_they_are_used(labels, message, fitted):
    _, X, _, _ = fitted
    with pytest.raises(ValueError, match=message):
        small().fit(X, labels)
    small(supervision="ignore", max_iter=0).fit(X, labels)


def test_classes_should_be_numbered_from_0_if_their_number_is_estimated(fitted):
    _, X, y, _ = fitted
    with pytest.raises(ValueError, match=r"class 5002.*n_samples=300"):
        small().set_params(n_clusters="auto").fit(X, y + 5000)


def test_partial_fit_does_not_learn_from_labels(fitted):
    _, X, y, _ = fitted
    with pytest.raises(ValueError, match="only fit learns from known labels"):
        small().partial_fit(X, y)
    small(init_size=100).partial_fit(X)


def test_clusters_agree_with_matching_if_labels_are_ignored(fitted):
    _, X, y, known = fitted
    labels = small(supervision="ignore").fit(X, known).labels_
    assert clustering_accuracy_score(y, labels) > 0.9
