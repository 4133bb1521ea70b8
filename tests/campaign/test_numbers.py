"""Random problems: equal results on all code paths, scales and offsets."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering
from skmixmate.data.batch import Batch
from skmixmate.model.native import binding
from skmixmate.model.posterior import posterior, thresholded_responsibilities
from skmixmate.model.priors import (
    AtomwiseLaplace,
    ElasticNet,
    Exponential,
    GroupLaplace,
    Laplace,
)
from skmixmate.model.spherical import SphericalMixture


def random_rows(rng, n_rows, n_features):
    """Rows of a random kind, of which some values may be missing."""
    rows = rng.normal(size=(n_rows, n_features))
    if rng.random() < 0.3:
        rows *= 10.0 ** rng.uniform(-8, 3, size=(n_rows, 1))
    if rng.random() < 0.3:
        rows *= 10.0 ** rng.uniform(-8, 1, size=n_features)
    if rng.random() < 0.3:
        rows[rng.integers(n_rows, size=n_rows // 2)] = rows[0]
    if rng.random() < 0.3:
        rows[:, rng.integers(n_features)] = rng.choice([0, 1, 1e3])
    if rng.random() < 0.1:
        rows[:] = 0
    rows *= 10.0 ** rng.choice([-15, -6, 0, 0, 0, 3, 6])
    observed = None
    if rng.random() < 0.5:
        observed = rng.random(rows.shape) < rng.choice([0.1, 0.5, 0.9])
        observed[rng.random(n_rows) < 0.1] = False
        observed[:, rng.random(n_features) < 0.1] = False
        rows = rows * observed
    # All code paths receive the same numbers.
    return rows.astype(np.float32).astype(np.float64), observed


def random_prior(rng, n_clusters, n_atoms, n_features):
    alpha = rng.choice([0.0, 1e-30, 1e-3, 0.2, 0.75, 10.0, 1e10])
    kind = rng.integers(5)
    if kind == 0:
        rates = 10.0 ** rng.uniform(-3, 3, size=(n_clusters, n_atoms))
        rates = torch.from_numpy(rates.astype(np.float32))
        return lambda dtype: AtomwiseLaplace(rates.to(dtype), n_features)
    if kind == 4:
        prior = GroupLaplace(alpha, group_size=int(rng.integers(1, 4)))
    else:
        prior = (Laplace, Exponential, ElasticNet)[kind - 1](alpha)
    return lambda dtype: prior


def random_problem(rng):
    """Rows, possibly with missing entries, and a function that creates a mixture."""
    n_clusters = int(rng.integers(1, 8))
    n_atoms, n_features = int(rng.integers(0, 71)), int(rng.integers(1, 71))
    n_rows = int(rng.integers(1, 71))
    if rng.random() < 0.1:
        n_clusters, n_atoms, n_features, n_rows = 70, n_atoms % 5, 3, 2
    rows, observed = random_rows(rng, n_rows, n_features)
    atoms = rng.normal(size=(n_clusters, n_atoms, n_features))
    if n_atoms > 1 and rng.random() < 0.3:
        atoms[:, 1] = atoms[:, 0]
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    intercepts = None
    if n_atoms == 0 or rng.random() < 0.5:
        intercepts = np.abs(rows).max() * rng.normal(size=(n_clusters, n_features))
    weights = rng.dirichlet(np.ones(n_clusters)).clip(1e-6)
    prior = random_prior(rng, n_clusters, n_atoms, n_features)
    settings = {
        "n_layers": int(rng.choice([1, 2, 3, 15, 40])),
        "noise_variance": float(rng.choice([0.5, 0.5, 1e-3, 30.0])),
    }

    def mixture(dtype):
        def tensor(array):
            # Rounded to float32, in float64 as well.
            return torch.from_numpy(array.astype(np.float32)).to(dtype)

        return SphericalMixture(
            dictionaries=tensor(atoms),
            intercepts=None if intercepts is None else tensor(intercepts),
            weights=tensor(weights),
            prior=prior(dtype),
            **settings,
        )

    return torch.from_numpy(rows), observed, mixture


def outputs(mixture, rows, observed):
    """Energies, posterior, codes and gradient of a mixture."""
    precomputed = mixture.precompute()
    with torch.no_grad():
        e_step = mixture.e_step(Batch(rows, observed), precomputed)
    energies = e_step.energies
    gradient = torch.zeros_like(mixture.dictionaries)
    if gradient.numel():
        mixture.add_gradient(
            gradient,
            Batch(rows, observed),
            e_step,
            thresholded_responsibilities(energies),
            precomputed,
        )
    return energies, posterior(energies), e_step.codes, gradient


def test_float64_compiled_and_torch_agree(attempt):
    def try_one(rng):
        rows, observed, mixture = random_problem(rng)
        mask = None if observed is None else torch.from_numpy(observed)
        double = outputs(mixture(torch.float64), rows, mask)
        compiled = outputs(mixture(torch.float32), rows.float(), mask)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(binding, "_library", None)
            in_torch = outputs(mixture(torch.float32), rows.float(), mask)
        energies, _, codes, gradient = double
        noise = mixture(torch.float64).noise_variance
        intercepts = mixture(torch.float64).intercepts
        norm = float(rows.norm(dim=1).max())
        if intercepts is not None:
            norm += float(intercepts.norm(dim=1).max())
        # In the Gram form, an energy is the difference of about a hundred rounded terms
        # of the size of the squared norm over twice the noise variance.
        rtol = 1e3 * torch.finfo(torch.float32).eps
        energy_atol = rtol * (norm**2 / noise + float(energies.abs().max()) + 1)
        # Every layer adds a rounding error that is proportional to the norm.
        code_atol = 30 * rtol * norm
        for single in (compiled, in_torch):
            assert all(output.isfinite().all() for output in single)
            assert float((single[0] - energies).abs().max()) <= energy_atol
            if codes.numel():
                assert float((single[2] - codes).abs().max()) <= code_atol
            # The posterior is a function of the energies.
            spread = float((single[0] - energies).abs().max())
            expected = torch.softmax(-single[0].double(), dim=0)
            torch.testing.assert_close(
                single[1].double(), expected, rtol=1e-3, atol=1e-5
            )
            if spread < 1e-4:
                torch.testing.assert_close(
                    single[1].double(), double[1], rtol=1e-3, atol=1e-3
                )
        # The gradients in float32, if no code lies on a threshold, are sums over rows
        # of terms that are proportional to their squared norms.
        if torch.equal(compiled[2] != 0, in_torch[2] != 0) and gradient.numel():
            scale = float(in_torch[3].abs().max()) + norm**2 / noise
            difference = (compiled[3] - in_torch[3]).abs().max()
            assert float(difference) <= 0.05 * scale * len(rows) + 1e-6

    attempt(try_one, cost=2)


def blobs(rng):
    """Clusters that are separated in each feature, labels, and parameters of a fit."""
    n_clusters, n_features = int(rng.integers(2, 5)), int(rng.integers(2, 9))
    centers = 30.0 * np.stack(
        [rng.permutation(n_clusters) for _ in range(n_features)], axis=1
    )
    y = rng.permutation(np.arange(60) % n_clusters)
    X = centers[y] + rng.normal(size=(60, n_features))
    if rng.random() < 0.3:
        X[:, :-1][rng.random((60, n_features - 1)) < 0.05] = np.nan
    params = {"n_clusters": n_clusters, "n_atoms": int(rng.integers(0, 5))}
    return X, y, {**params, "max_iter": 1, "tol": 0, "random_state": 0}


def test_scales_and_offsets_do_not_change_labels(attempt):
    def try_one(rng):
        X, y, params = blobs(rng)
        dtype = rng.choice([np.float32, np.float64])
        max_exponent = 36 if dtype == np.float32 else 300
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            factor = 10.0 ** rng.uniform(-max_exponent, max_exponent - 2)
            offset = 10.0 ** rng.uniform(0, 5 if dtype == np.float32 else 12)
            moved = X + offset * rng.normal(size=X.shape[1]) * (rng.random() < 0.5)
            if rng.random() < 0.3:
                moved[:, 0] = rng.choice([0, 1, 1e8]) * 3.3
                X[:, 0] = 0
            plain = MixMateClustering(**params).fit_predict(X.astype(dtype))
            factor = min(factor, 10.0**max_exponent / np.nanmax(np.abs(moved)))
            mixmate = MixMateClustering(**params).fit((moved * factor).astype(dtype))
        # With imputed means, the initialisation may miss clusters.
        if adjusted_rand_score(y, plain) == 1:
            assert adjusted_rand_score(y, mixmate.labels_) == 1
        probabilities = mixmate.predict_proba((moved * factor).astype(dtype))
        assert np.isfinite(probabilities).all()
        assert np.isfinite(mixmate.dictionaries_).all()

    attempt(try_one, cost=10)
