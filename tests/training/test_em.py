import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from skmixmate.data.loader import RowLoader
from skmixmate.model.likelihoods import Gaussian, StudentT
from skmixmate.model.penalties import Smoothness
from skmixmate.model.priors import Laplace
from skmixmate.model.spherical import SphericalMixture
from skmixmate.training.em import ExpectationMaximization
from skmixmate.training.loop import History, train

from .. import reference


class Monitor:
    """Counts epochs; may stop or interrupt after some of them."""

    def __init__(self, stop_after=None, interrupt_in=None):
        self.n_begun = self.n_ended = 0
        self.stop_after, self.interrupt_in = stop_after, interrupt_in

    def begin(self):
        self.n_begun += 1
        if self.n_begun == self.interrupt_in:
            raise KeyboardInterrupt

    def end(self):
        self.n_ended += 1
        return self.n_ended == self.stop_after

    def maybe_checkpoint(self, state, history):
        self.kept = state, history


def make_em(
    X,
    n_clusters=3,
    n_atoms=4,
    intercepts=None,
    step_size=None,
    likelihood=Gaussian(),  # noqa: B008
    sample_weight=None,
    labels=None,
    **settings,
):
    generator = torch.Generator().manual_seed(0)
    X = torch.as_tensor(X)
    dictionaries = torch.randn(
        n_clusters, n_atoms, X.shape[1], generator=generator, dtype=X.dtype
    )
    if n_atoms:
        dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    mixture = SphericalMixture(
        dictionaries=dictionaries,
        intercepts=None if intercepts is None else torch.tensor(intercepts),
        weights=torch.full((n_clusters,), 1 / n_clusters, dtype=X.dtype),
        prior=Laplace(0.3),
        n_layers=15,
        step_size=step_size,
        likelihood=likelihood,
    )
    settings = {
        "n_window": len(X),
        "batch_size": 16,
        "learning_rate": 1e-2,
        "learn_weights": False,
        "generator": generator,
        **settings,
    }
    rows = RowLoader(
        X, device=torch.device("cpu"), sample_weight=sample_weight, labels=labels
    )
    return ExpectationMaximization(mixture, rows, torch.arange(len(X)), **settings)


def random_data(n_samples=50, n_features=6, missing=0.0, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = 2 * rng.normal(size=(n_samples, n_features))
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X.astype(dtype)


def assert_equal(state, expected):
    torch.testing.assert_close(state, expected, rtol=0, atol=0)


def published_gradient(X, mixture, step=0.1):
    dictionaries = mixture.dictionaries.detach().clone().requires_grad_()
    values = torch.from_numpy(X)
    energies = reference.energies(
        values.nan_to_num(0),
        dictionaries,
        step,
        mixture.prior.alpha,
        mixture.n_layers,
        mixture.weights,
        ~values.isnan(),
    )
    loss = reference.loss(energies)
    return loss.item(), torch.autograd.grad(loss, dictionaries)[0]


def gradient_of(em):
    """Of the only step so far, a tenth of which is Adam's first moment."""
    assert em.optimizer.moments["step"] == 1
    return em.optimizer.moments["exp_avg"] / 0.1


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-4)]
)
def test_step_has_the_gradient_of_the_published_formulation(dtype, tolerance):
    X = random_data(dtype=dtype)
    em = make_em(X, step_size=0.1, batch_size=50)
    expected_loss, expected = published_gradient(X, em.mixture)
    loss = em.run_epoch()
    actual = gradient_of(em)
    assert (actual - expected).norm() < tolerance * expected.norm()
    assert loss == pytest.approx(expected_loss, rel=10 * tolerance)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_penalty_is_added_to_loss_and_gradient(missing):
    X = random_data(missing=missing)
    without, penalty = make_em(X, batch_size=50), Smoothness(0.5, (2, 3))
    em = make_em(X, batch_size=50, penalty=penalty)
    value = penalty.value(em.mixture.dictionaries).item()
    gradient = penalty.gradient(em.mixture.dictionaries)
    assert em.mean_loss() == pytest.approx(without.mean_loss() + value)
    assert em.run_epoch() == pytest.approx(without.run_epoch() + value)
    torch.testing.assert_close(gradient_of(em), gradient_of(without) + gradient)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize(
    "settings",
    [
        {"penalty": Smoothness(0.5, (2, 3)), "learn_weights": True},
        {"intercepts": np.eye(3, 6), "learn_noise": True},
        {"likelihood": StudentT(3.0), "learn_likelihood": True},
    ],
    ids=str,
)
def test_a_row_of_weight_w_counts_as_w_rows(settings, missing):
    X = random_data(20, missing=missing)
    weights = np.arange(20) % 3 + 1
    weighted = make_em(X, batch_size=20, sample_weight=weights, **settings)
    repeated = make_em(np.repeat(X, weights, axis=0), batch_size=100, **settings)
    for _ in range(3):
        assert weighted.run_epoch() == pytest.approx(repeated.run_epoch())
    assert weighted.mean_loss() == pytest.approx(repeated.mean_loss())
    state, expected = weighted.state_dict(), repeated.state_dict()
    for name in ("dictionaries", "intercepts", "weights", "noise_variance", "moments"):
        torch.testing.assert_close(state[name], expected[name])
    assert state.get("likelihood") == pytest.approx(expected.get("likelihood"))


def test_loss_is_a_weighted_mean_over_all_batches():
    X, weights = random_data(48), np.arange(48.0)
    settings = {"learning_rate": 1e-9, "penalty": Smoothness(0.5, (2, 3))}
    em = make_em(X, sample_weight=weights, **settings)  # 16 rows in a mini-batch
    losses = [make_em(row[None], **settings).mean_loss() for row in X]
    expected = pytest.approx(np.average(losses, weights=weights))
    assert em.run_epoch() == expected
    assert em.run_stream() == expected
    assert em.mean_loss() == expected


def test_weights_of_other_size_are_the_same_on_average():
    X, settings = random_data(48), {"intercepts": np.eye(3, 6), "learn_weights": True}
    unweighted = make_em(X, **settings)
    weighted = make_em(X, sample_weight=np.full(48, 4.0), **settings)
    for _ in range(2):
        assert weighted.run_epoch() == pytest.approx(unweighted.run_epoch())
    assert weighted.run_stream() == pytest.approx(unweighted.run_stream())
    for name in ("dictionaries", "intercepts", "weights"):
        torch.testing.assert_close(
            getattr(weighted.mixture, name), getattr(unweighted.mixture, name)
        )


def test_known_labels_are_known_posteriors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))  # no clusters
    labels = np.arange(60) % 3
    settings = {"intercepts": np.zeros((3, 6)), "n_atoms": 0, "batch_size": 60}
    em = make_em(X, labels=labels, learn_weights=True, **settings)
    em.run_epoch()
    means = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(em.mixture.intercepts, means)
    np.testing.assert_allclose(em.mixture.weights, 1 / 3)
    # The loss of a row is the energy of its cluster; others have the same in all.
    em = make_em(X, labels=np.where(np.arange(60) < 30, labels, -1), **settings)
    energies = em.mixture.e_step(em.rows.load(slice(None))).energies.numpy()
    expected = energies[labels, np.arange(60)][:30].sum() + energies[0, 30:].sum()
    assert em.mean_loss() == pytest.approx(expected / 60)
    assert em.run_epoch() == pytest.approx(expected / 60)


def test_gradient_with_missing_entries_is_close_to_the_published_one():
    X = random_data(500, n_features=40, missing=0.2)
    X[::3] = random_data(500, n_features=40)[::3]  # complete rows
    X[1::30, :30] = np.nan  # rows that miss much
    em = make_em(X, step_size=0.1, batch_size=500)
    expected_loss, expected = published_gradient(X, em.mixture)
    assert em.run_epoch() == pytest.approx(expected_loss, rel=1e-3)
    actual = gradient_of(em)
    cosine = (actual * expected).sum() / actual.norm() / expected.norm()
    assert cosine > 0.99


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_mean_loss_includes_all_rows(missing):
    X = random_data(missing=missing)  # 50 rows, 16 in a mini-batch
    em, whole = make_em(X), make_em(X, batch_size=50)
    assert em.mean_loss() == pytest.approx(whole.run_epoch())


@pytest.mark.parametrize(
    ("n_samples", "n_seen_rows"),
    [(50, 48), (10, 10)],  # 16 in a mini-batch
)
def test_last_incomplete_batch_is_dropped_unless_it_is_the_only_one(
    n_samples, n_seen_rows
):
    em = make_em(random_data(n_samples))
    seen_rows = []
    load = em.rows.load
    em.rows.load = lambda index: seen_rows.extend(index.tolist()) or load(index)
    em.run_epoch()
    assert len(set(seen_rows)) == len(seen_rows) == n_seen_rows


def test_atoms_stay_on_the_unit_sphere_and_loss_falls():
    em = make_em(random_data(missing=0.1))
    history = train(em, max_iter=30, tol=0, n_iter_no_change=5, monitor=Monitor())
    norms = em.mixture.dictionaries.norm(dim=2)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert not em.mixture.dictionaries.requires_grad
    assert history.losses[-1] < 0.9 * history.losses[0]
    assert len(history.losses) == 30
    assert not history.converged


def test_without_atoms_an_epoch_is_an_iteration_of_lloyd():
    X, _ = make_blobs(200, centers=4, n_features=5, random_state=0)
    X *= 100  # far apart: the posterior is one-hot
    start = X[:4].copy()
    em = make_em(X, 4, n_atoms=0, intercepts=start, batch_size=1000)
    kmeans = KMeans(4, init=start, n_init=1, max_iter=300, tol=0).fit(X)
    train(em, max_iter=100, tol=0, n_iter_no_change=5, monitor=Monitor())
    np.testing.assert_allclose(em.mixture.intercepts, kmeans.cluster_centers_)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_intercepts_converge_to_the_means_with_small_batches(missing):
    X, y = make_blobs(600, centers=3, n_features=5, random_state=0)
    X *= 10
    start = np.stack([X[y == k][0] for k in range(3)])
    X[np.random.default_rng(0).random(X.shape) < missing] = np.nan
    em = make_em(X, n_atoms=0, intercepts=start, batch_size=32)
    train(em, max_iter=30, tol=0, n_iter_no_change=5, monitor=Monitor())
    means = np.stack([np.nanmean(X[y == k], axis=0) for k in range(3)])
    np.testing.assert_allclose(em.mixture.intercepts, means, atol=0.5)


def test_training_stops_once_the_loss_has_stalled():
    history = History(losses=[5.0, 4.0, 3.0, 2.9999, 3.1])
    assert history.has_stalled(tol=1e-3, n_iter_no_change=2)
    assert not history.has_stalled(tol=1e-5, n_iter_no_change=2)
    assert not history.has_stalled(tol=1e-3, n_iter_no_change=3)
    assert not history.has_stalled(tol=1e-3, n_iter_no_change=5)
    assert not history.has_stalled(tol=0, n_iter_no_change=2)

    em = make_em(random_data())
    history = train(em, max_iter=500, tol=1e-2, n_iter_no_change=3, monitor=Monitor())
    assert history.converged
    assert len(history.losses) < 500


def test_monitor_can_stop_training():
    em = make_em(random_data())
    monitor = Monitor(stop_after=2)
    history = train(em, max_iter=9, tol=0, n_iter_no_change=5, monitor=monitor)
    assert len(history.losses) == monitor.n_begun == 2
    assert not history.converged
    assert not history.interrupted


def test_interrupt_restores_the_last_whole_epoch():
    start = random_data()[:3]
    whole = make_em(random_data(), intercepts=start)
    train(whole, max_iter=2, tol=0, n_iter_no_change=5, monitor=Monitor())

    em = make_em(random_data(), intercepts=start)
    load = em.rows.load
    n_taken = 0

    def load_until_interrupted(index):
        nonlocal n_taken
        n_taken += 1
        if n_taken == 8:  # 3 mini-batches an epoch: in the middle of the third
            raise KeyboardInterrupt
        return load(index)

    em.rows.load = load_until_interrupted
    history = train(em, max_iter=9, tol=0, n_iter_no_change=5, monitor=Monitor())
    assert history.interrupted
    assert len(history.losses) == 2
    assert_equal(em.state_dict(), whole.state_dict())


@pytest.mark.parametrize("has_intercepts", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("learn_likelihood", [False, True])
def test_resumed_run_equals_an_unbroken_one(learn_likelihood, has_intercepts, missing):
    X = random_data(missing=missing)
    settings = {"learn_weights": True, "learn_noise": True}
    if learn_likelihood:
        settings |= {"likelihood": StudentT(5.0), "learn_likelihood": True}
    if has_intercepts:
        settings["intercepts"] = random_data()[:3]
    stopping = {"max_iter": 5, "tol": 0, "n_iter_no_change": 5}
    whole = make_em(X, **settings)
    expected = train(whole, monitor=Monitor(), **stopping)

    before, monitor = make_em(X, **settings), Monitor(interrupt_in=3)
    earlier = train(before, monitor=monitor, **stopping)
    kept, _ = monitor.kept
    assert_equal(kept, before.state_dict())
    after = make_em(X, **settings)
    after.load_state_dict(kept)
    resumed = History(earlier.losses)
    history = train(after, monitor=Monitor(), history=resumed, **stopping)
    assert history.losses == expected.losses
    assert_equal(after.state_dict(), whole.state_dict())


def test_states_are_copies():
    em, other = make_em(random_data()), make_em(random_data())
    em.run_epoch()
    state = em.state_dict()
    before = em.state_dict()
    other.load_state_dict(state)
    em.run_epoch()
    other.run_epoch()
    assert_equal(state, before)
    assert_equal(other.state_dict(), em.state_dict())


@pytest.mark.parametrize("earlier", [{"stopped": True}, {"losses": [2.0, 2.0]}])
def test_finished_run_is_not_resumed(earlier):
    em = make_em(random_data())
    history = History(**earlier)
    train(em, max_iter=5, tol=0.1, n_iter_no_change=1, monitor=None, history=history)
    assert len(history.losses) == len(earlier.get("losses", []))


def test_stream_trains_on_rows_in_their_order():
    em = make_em(random_data(48))
    order = []
    load = em.rows.load
    em.rows.load = lambda index: order.append(index) or load(index)
    whole = make_em(random_data(48), batch_size=48).mean_loss()
    assert em.run_stream() == pytest.approx(whole, rel=0.1)
    assert order == [slice(0, 16), slice(16, 32), slice(32, 48)]


@pytest.mark.parametrize("n_window", [60, 6000])
def test_weights_of_a_stream_are_averaged_over_a_window(n_window):
    X = np.repeat(3 * np.eye(3, 6), [30, 20, 10], axis=0)
    settings = {"batch_size": 60, "learn_weights": True, "n_atoms": 0}
    em = make_em(X, intercepts=3 * np.eye(3, 6), n_window=n_window, **settings)
    em.run_stream()
    shares = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64) / 6
    expected = torch.lerp(torch.full_like(shares, 1 / 3), shares, 60 / n_window)
    torch.testing.assert_close(em.mixture.weights, expected, rtol=1e-3, atol=1e-3)


def test_weights_follow_the_posterior():
    X = np.repeat(3 * np.eye(3, 6), [30, 20, 10], axis=0)
    start = 3 * np.eye(3, 6)
    em = make_em(X, intercepts=start, batch_size=60, learn_weights=True, n_atoms=0)
    em.run_epoch()
    torch.testing.assert_close(
        em.mixture.weights,
        torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64) / 6,
        rtol=1e-3,
        atol=1e-3,
    )


def noisy_data(n_samples, noise=0.3, missing=0.0):
    """Draw rows of the three dictionaries of `make_em`, with noise."""
    rng = np.random.default_rng(0)
    dictionaries = make_em(np.zeros((1, 12)), batch_size=1).mixture.dictionaries.numpy()
    codes = rng.laplace(scale=1 / 0.3, size=(n_samples, 4))
    X = np.einsum("nd,ndm->nm", codes, dictionaries[rng.integers(3, size=n_samples)])
    X += noise * rng.normal(size=X.shape)
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_noise_variance_is_recovered(noise, missing):
    X = noisy_data(2000, noise, missing)
    em = make_em(X, learn_noise=True, batch_size=100, learning_rate=1e-5)
    for _ in range(10):
        em.run_epoch()
    assert em.mixture.noise_variance == pytest.approx(noise**2, rel=0.25)


def test_noise_variance_stays_positive_if_rows_are_explained_exactly():
    X = np.repeat(random_data(3), 20, axis=0).astype(np.float32)
    em = make_em(X, n_atoms=0, intercepts=X[::20], learn_noise=True, batch_size=60)
    for _ in range(3):
        loss = em.run_epoch()
    assert em.mixture.noise_variance == pytest.approx(1000 * np.finfo(np.float32).eps)
    assert np.isfinite(loss)


def test_a_stream_learns_the_noise_over_a_window():
    X = noisy_data(2000)
    settings = {"batch_size": 100, "n_window": 200, "learning_rate": 1e-5}
    em = make_em(X, learn_noise=True, **settings)
    em.run_stream()
    assert em.mixture.noise_variance == pytest.approx(0.3**2, rel=0.2)


@pytest.mark.slow
def test_degrees_of_freedom_and_noise_are_recovered():
    X = noisy_data(2000, 0.0)
    X += 0.3 * StudentT(3.0).sample_noise(X.shape, np.random.RandomState(0))
    settings = {"batch_size": 100, "learning_rate": 1e-5, "learn_noise": True}
    em = make_em(X, likelihood=StudentT(10.0), learn_likelihood=True, **settings)
    for _ in range(15):
        em.run_epoch()
    assert em.mixture.likelihood.df == pytest.approx(3.0, rel=0.35)
    assert em.mixture.noise_variance == pytest.approx(0.3**2, rel=0.25)


def test_state_holds_the_likelihood_only_if_it_is_learned():
    fixed = make_em(random_data(), likelihood=StudentT(5.0)).state_dict()
    learned = make_em(
        random_data(), likelihood=StudentT(5.0), learn_likelihood=True
    ).state_dict()
    assert learned.keys() - fixed.keys() == {"likelihood", "likelihood_statistics"}
    assert learned["likelihood"] == {"df": 5.0}
    assert learned["likelihood_statistics"].shape == (3,)


def test_a_state_without_likelihood_is_loaded():
    em = make_em(random_data(), likelihood=StudentT(5.0), learn_likelihood=True)
    em.load_state_dict(make_em(random_data()).state_dict())
    assert em.mixture.likelihood == StudentT(5.0)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [50.0, -50.0])
def test_far_outliers_hardly_move_the_model_with_student_t_noise(shift):
    X = noisy_data(480)
    outlying = X.copy()
    outlying[::48] = shift
    distances = {}
    for likelihood in (Gaussian(), StudentT(3.0)):
        settings = {"learning_rate": 1e-2, "intercepts": np.zeros((3, 12))}
        clean, dirty = (
            make_em(data, likelihood=likelihood, **settings) for data in (X, outlying)
        )
        for em in (clean, dirty):
            em.mixture.noise_variance = 0.3**2
            for _ in range(5):
                em.run_epoch()
        distances[likelihood] = (
            (clean.mixture.dictionaries - dirty.mixture.dictionaries).norm(),
            (clean.mixture.intercepts - dirty.mixture.intercepts).norm(),
        )
    gaussian, student_t = distances.values()
    assert student_t[0] < 0.5 * gaussian[0]
    assert student_t[1] < 0.1 * gaussian[1]
