import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

import skmixmate
from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture
from skmixmate.model.likelihoods import Gaussian, NegativeBinomial, StudentT

from ..helpers import assert_fitted_like, assert_same_model, data, small, streamed


def with_outliers(n_samples=300, fraction=0.05, factor=1):
    """Rows of a sparse mixture, some of them replaced by noise."""
    bunch = make_sparse_mixture(n_samples, 32, n_atoms=4, random_state=0)
    rng = np.random.RandomState(0)
    is_outlier = rng.uniform(size=n_samples) < fraction
    X = bunch.data.copy()
    norm = np.sqrt((X**2).mean())
    X[is_outlier] = factor * norm * rng.standard_normal((is_outlier.sum(), 32))
    return X, bunch.target, is_outlier


def counts(dispersion=0.5, n_samples=300, random_state=0):
    """Negative-binomial counts of three clusters with different rates."""
    rng = np.random.RandomState(random_state)
    y = rng.randint(3, size=n_samples)
    rates = np.exp(1 + rng.standard_normal((3, 30)))[y]
    shape = 1 / dispersion
    return rng.negative_binomial(shape, shape / (shape + rates)).astype(float), y


DATA = {
    "student_t": lambda: with_outliers()[0],
    "negative_binomial": lambda: counts()[0],
}
LEARNED = {"student_t": "df", "negative_binomial": "dispersion"}


@pytest.mark.parametrize("likelihood", ["student_t", StudentT(df=4.0)])
def test_outliers_have_the_largest_scores(likelihood):
    X, y, is_outlier = with_outliers()
    mixmate = small(likelihood=likelihood, n_atoms=8).fit(X)
    scores = mixmate.outlier_scores(X)
    assert scores.shape == (300,)
    assert scores.min() > 0
    assert roc_auc_score(is_outlier, scores) > 0.99
    assert (
        clustering_accuracy_score(y[~is_outlier], mixmate.labels_[~is_outlier]) > 0.99
    )


def test_typical_samples_have_scores_near_one_if_the_noise_is_learned():
    X, _, is_outlier = with_outliers()
    mixmate = small(
        likelihood=StudentT(df=5.0), noise_variance="auto", n_atoms=4, max_iter=10
    )
    scores = mixmate.fit(X).outlier_scores(X)
    assert 0.5 < np.median(scores[~is_outlier]) < 2


def test_outlier_scores_of_any_input(tmp_path):
    X, _, _ = with_outliers()
    mixmate = small(likelihood="student_t").fit(X)
    scores = mixmate.outlier_scores(X)
    out = np.empty(len(X))
    assert mixmate.outlier_scores(X, out=out) is out
    np.testing.assert_array_equal(out, scores)
    batches = mixmate.predict_batches(X, "outlier_scores", batch_size=70)
    np.testing.assert_array_equal(np.concatenate(list(batches)), scores)
    X[:, 3] = np.nan
    assert np.isfinite(mixmate.outlier_scores(X)).all()


def test_other_likelihoods_have_no_outlier_scores():
    mixmate = small().fit(data())
    assert not hasattr(mixmate, "outlier_scores")
    with pytest.raises(AttributeError, match="needs likelihood='student_t', not 'gau"):
        mixmate.predict_batches(data(), "outlier_scores")


def test_outliers_move_intercepts_less():
    X, y, is_outlier = with_outliers(fraction=0.1, factor=4)
    means = np.stack([X[(y == k) & ~is_outlier].mean(axis=0) for k in range(3)])

    def distance(likelihood):
        mixmate = small(likelihood=likelihood, n_atoms=4, max_iter=10).fit(X)
        order = [np.bincount(mixmate.labels_[y == k]).argmax() for k in range(3)]
        return np.linalg.norm(mixmate.intercepts_[order] - means)

    assert distance("student_t") < distance("gaussian")


@pytest.mark.slow
@pytest.mark.parametrize("dispersion", [0.5, 2.0])
def test_dispersion_is_learned(dispersion):
    X, y = counts(dispersion, n_samples=600)
    mixmate = small(
        likelihood="negative_binomial", n_atoms=0, batch_size=100, max_iter=10
    ).fit(X)
    assert abs(mixmate.likelihood_.dispersion / dispersion - 1) < 0.1
    assert clustering_accuracy_score(y, mixmate.labels_) > 0.95
    poisson = small(likelihood="poisson", n_atoms=0, batch_size=100, max_iter=10)
    assert mixmate.score(X) > poisson.fit(X).score(X) + 1


@pytest.mark.parametrize("name", DATA)
def test_labels_agree_with_predict_and_copies_agree(name, tmp_path):
    X = DATA[name]()
    mixmate = small(likelihood=name).fit(X)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))
    assert not mixmate.likelihood_.is_learned
    mixmate.save(tmp_path / "model")
    copies = skmixmate.load(tmp_path / "model"), pickle.loads(pickle.dumps(mixmate))
    for copied in copies:
        assert copied.likelihood == name
        assert copied.likelihood_ == mixmate.likelihood_
        np.testing.assert_array_equal(copied.energies(X), mixmate.energies(X))


@pytest.mark.parametrize("name", DATA)
def test_given_parameters_are_kept(name, tmp_path):
    likelihood = {"df": StudentT(df=3.0), "dispersion": NegativeBinomial(0.7)}
    likelihood = likelihood[LEARNED[name]]
    X = DATA[name]()
    mixmate = clone(small(likelihood=likelihood)).fit(X)
    assert mixmate.likelihood_ == likelihood
    mixmate.save(tmp_path / "model")
    assert skmixmate.load(tmp_path / "model").likelihood == likelihood


@pytest.mark.parametrize("name", DATA)
def test_chunks_of_a_stream_do_not_matter(name):
    X = DATA[name]()
    whole = streamed(X, [len(X)], likelihood=name)
    chunks = streamed(X, [50, 150, 100], likelihood=name)
    assert_same_model(chunks, whole)
    assert chunks.likelihood_ == whole.likelihood_


class InterruptSecondEpoch(ScoringMonitor):
    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", DATA)
def test_a_resumed_fit_equals_an_uninterrupted_one(name, tmp_path):
    X = DATA[name]()
    params = {"likelihood": name, "checkpoint": tmp_path / "checkpoint"}
    interrupted = small(**params).set_callbacks(InterruptSecondEpoch(scoring=None))
    with pytest.warns(UserWarning, match="interrupted after 1 whole epochs"):
        interrupted.fit(X)
    resumed, expected = small(**params).fit(X), small(likelihood=name).fit(X)
    assert_fitted_like(resumed, expected)
    assert resumed.likelihood_ == expected.likelihood_


@pytest.mark.parametrize("name", DATA)
def test_warm_start_continues_with_what_was_learned(name):
    X = DATA[name]()
    mixmate = small(likelihood=name, warm_start=True, max_iter=5).fit(X)
    learned = mixmate.likelihood_
    mixmate.set_params(max_iter=0).fit(X)
    assert mixmate.likelihood_ == learned


@pytest.mark.slow
def test_instances_can_be_searched_over():
    X, _ = counts()
    search = GridSearchCV(
        small(n_atoms=0, max_iter=5),
        {"likelihood": [NegativeBinomial(d) for d in (0.01, 0.5, 20.0)]},
        cv=2,
    ).fit(X)
    assert search.best_params_ == {"likelihood": NegativeBinomial(0.5)}


@pytest.mark.parametrize("name", DATA)
def test_an_array_as_init(name):
    X = DATA[name]()
    init = X[:12].reshape(3, 4, -1)
    mixmate = small(likelihood=name, init=init, n_atoms=4, max_iter=1).fit(X)
    assert mixmate.dictionaries_.shape == (3, 4, X.shape[1])


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (
            "normal",
            "The 'likelihood' parameter of MixMateClustering must be .*'normal'",
        ),
        (3, "The 'likelihood' parameter .*Got 3"),
    ],
)
def test_unknown_likelihoods_raise(likelihood, message):
    with pytest.raises(ValueError, match=message):
        MixMateClustering(likelihood=likelihood).fit(data())


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [("student_t", StudentT), (StudentT(df=3.0), StudentT), ("gaussian", Gaussian)],
)
def test_a_model_continues_with_another_likelihood(method, likelihood, expected):
    X = data()
    mixmate = small(likelihood="gaussian", warm_start=True).fit(X)
    mixmate.set_params(likelihood=likelihood)
    getattr(mixmate, method)(X)
    assert type(mixmate.likelihood_) is expected
    assert not mixmate.likelihood_.is_learned
    if isinstance(likelihood, StudentT):
        assert mixmate.likelihood_ == likelihood
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))


def test_outlier_scores_are_of_the_fit():
    X, _, _ = with_outliers()
    mixmate = small(likelihood="student_t").fit(X)
    scores = mixmate.outlier_scores(X)
    mixmate.set_params(likelihood="gaussian")
    np.testing.assert_array_equal(mixmate.outlier_scores(X), scores)
    assert not hasattr(clone(mixmate), "outlier_scores")


def test_tags_of_an_invalid_estimator():
    assert not small(likelihood="normal").__sklearn_tags__().input_tags.positive_only
    tags = small(likelihood=NegativeBinomial(0.5)).__sklearn_tags__()
    assert tags.input_tags.positive_only
