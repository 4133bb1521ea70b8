"""The first atoms and intercepts, made from clustered rows."""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA

from ..model.likelihood import Likelihood
from ..model.likelihoods import Gaussian
from ..utils.numbers import far_means, safe_exponent, with_safe_squares

Selection = Callable[[np.ndarray], np.ndarray]


def dictionaries_from_labels(
    sample: np.ndarray,
    labels: np.ndarray,
    n_clusters: int,
    n_atoms: int,
    fit_intercept: bool,
    random_state: np.random.RandomState,
    center: bool = False,
    likelihood: Likelihood | None = None,
    atoms: str = "samples",
) -> tuple[np.ndarray, np.ndarray]:
    """Make the atoms of each cluster from its samples.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Negative for samples of no cluster.
    n_clusters : int
    n_atoms : int
    fit_intercept : bool
        Whether the atoms are deviations from the mean of the cluster.
    random_state : RandomState
    center : bool, default=False
        Whether the mean of its entries is subtracted from each atom.
    likelihood : Likelihood, default=None
        Of the entries: atoms and intercepts are natural parameters.
    atoms : {"samples", "pca"}, default="samples"
        Atoms are samples drawn at random, or the principal directions of each
        cluster, longest first.

    Returns
    -------
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
        Atoms of norm 1. In a cluster with fewer samples than atoms the others are
        random combinations of its samples.
    intercepts : ndarray of shape (n_clusters, n_features)
        Means of the clusters; zeros without `fit_intercept`.
    """
    groups = _split_by_label(sample, labels, n_clusters, random_state)

    def select(deviations: np.ndarray) -> np.ndarray:
        n_directions = min(n_atoms, *deviations.shape)
        if atoms == "pca" and len(deviations) > 1 and n_directions:
            pca = PCA(n_directions, random_state=random_state)
            with np.errstate(invalid="ignore"):  # fractions of a variance of 0
                return pca.fit(deviations).components_
        return deviations[random_state.permutation(len(deviations))]

    return _make_atoms(
        groups,
        n_atoms,
        fit_intercept,
        random_state,
        center,
        likelihood or Gaussian(),
        select,
    )


def dictionaries_from_array(
    init: np.ndarray,
    fit_intercept: bool,
    random_state: np.random.RandomState,
    center: bool = False,
    likelihood: Likelihood | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the atoms of each cluster from the rows given for it, in their order.

    Parameters
    ----------
    init : ndarray of shape (n_clusters, n_atoms, n_features)
    fit_intercept, random_state, center, likelihood
        As in :func:`dictionaries_from_labels`.

    Returns
    -------
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
    intercepts : ndarray of shape (n_clusters, n_features)
    """
    return _make_atoms(
        list(init),
        init.shape[1],
        fit_intercept,
        random_state,
        center,
        likelihood or Gaussian(),
        select=np.asarray,
    )


def mean_abs_projections(
    sample: np.ndarray,
    labels: np.ndarray,
    dictionaries: np.ndarray,
    intercepts: np.ndarray,
) -> np.ndarray:
    """Compute the mean magnitude of the projections of each cluster on its atoms.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Negative for samples of no cluster.
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
    intercepts : ndarray of shape (n_clusters, n_features)

    Returns
    -------
    magnitudes : ndarray of shape (n_clusters, n_atoms)
        Of the deviations from the intercept: the inverse of the maximum-likelihood
        rate of a Laplace distribution. 0 for a cluster without samples.
    """
    magnitudes = np.zeros(dictionaries.shape[:2])
    for label in np.unique(labels[labels >= 0]):
        deviations = sample[labels == label] - intercepts[label]
        exponent = safe_exponent(deviations)  # sums could overflow
        deviations = np.ldexp(deviations, -exponent)
        means = np.abs(deviations @ dictionaries[label].T).mean(axis=0)
        magnitudes[label] = np.ldexp(means.astype(np.float64), exponent)
    return magnitudes


def _split_by_label(
    sample: np.ndarray,
    labels: np.ndarray,
    n_clusters: int,
    random_state: np.random.RandomState,
) -> list[np.ndarray]:
    """Split samples by their labels; a cluster without samples gets a random one."""
    groups = [sample[labels == label] for label in range(n_clusters)]
    return [
        group if len(group) else sample[random_state.randint(len(sample), size=1)]
        for group in groups
    ]


def _make_atoms(
    groups: list[np.ndarray],
    n_atoms: int,
    fit_intercept: bool,
    random_state: np.random.RandomState,
    center: bool,
    likelihood: Likelihood,
    select: Selection,
) -> tuple[np.ndarray, np.ndarray]:
    natural = [likelihood.to_natural(group) for group in groups]
    everything = np.concatenate(natural)
    exponent = safe_exponent(everything)  # sums could overflow
    natural = [np.ldexp(group, -exponent) for group in natural] if exponent else natural
    # Far from the origin the digits of float32 are not enough for means.
    is_normal = likelihood.has_noise_variance
    origin = far_means(everything) if fit_intercept and is_normal else None
    if origin is not None:
        natural = [
            (group - np.ldexp(origin, -exponent)).astype(group.dtype)
            for group in natural
        ]
    means = np.stack([group.mean(axis=0) * bool(fit_intercept) for group in natural])
    dictionaries = np.stack(
        [
            normalized_atoms(group - mean, n_atoms, random_state, center, select)
            for group, mean in zip(natural, means, strict=True)
        ]
    )
    if is_normal or not fit_intercept:
        means = np.ldexp(means, exponent) if exponent else means
        return dictionaries, means if origin is None else means + origin
    # The parameter of a mean is not the mean of parameters.
    return dictionaries, np.stack([likelihood.mean_to_natural(g) for g in groups])


def normalized_atoms(
    deviations: np.ndarray,
    n_atoms: int,
    random_state: np.random.RandomState,
    center: bool,
    select: Selection,
) -> np.ndarray:
    """Make the atoms of one cluster.

    Parameters
    ----------
    deviations : ndarray of shape (n_rows, n_features)
        Its rows, less their mean if there are intercepts.
    n_atoms, random_state, center
        As in :func:`dictionaries_from_labels`.
    select : callable
        Returns the directions, or rows, that atoms are made of, the first ones first.

    Returns
    -------
    atoms : ndarray of shape (n_atoms, n_features)
        Of norm 1.
    """
    if center:
        deviations = deviations - deviations.mean(axis=1, keepdims=True)
    deviations = select(with_safe_squares(deviations))
    n_rows, n_features = deviations.shape
    atoms = deviations[:n_atoms]
    mixing = random_state.standard_normal((n_atoms - len(atoms), n_rows))
    atoms = np.concatenate([atoms, (mixing @ deviations).astype(atoms.dtype)])
    norms = np.linalg.norm(atoms, axis=1, keepdims=True)
    # A cluster of equal samples has no direction.
    is_null = norms[:, 0] <= np.finfo(atoms.dtype).eps * norms.max(initial=0)
    atoms[is_null] = random_state.standard_normal((is_null.sum(), n_features))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
