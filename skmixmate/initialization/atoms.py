"""Initialisation: a subsample, its clusters, and dictionaries made of them.

An initialiser is any clusterer with `fit_predict`; those that go by a name are
listed in `INITIALIZERS`.
"""

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from ..cluster import SparseSubspaceClustering, SpectralGraphClustering
from ..data.containers import as_numpy
from ..distributed.communicator import apportion
from ..image._features import graph_features
from ..utils.numbers import far_means, near_origin, safe_exponent, with_safe_squares


def _auto(n_clusters, image_shape):
    if image_shape is None:
        return SpectralGraphClustering(n_clusters, refine=True)
    # Each of these does better on scattering features, and none on plain ones: see
    # benchmarks/NOTES.rst.
    return SpectralGraphClustering(
        n_clusters, n_nonzero_coefs=5, metric="cosine", n_steps=4
    )


# Names and what they stand for: ``factory(n_clusters, image_shape)`` gives a
# clusterer, which for images will see their scattering features.
INITIALIZERS = {
    "auto": _auto,
    "spectral": lambda n_clusters, image_shape: SpectralGraphClustering(n_clusters),
    "ssc": lambda n_clusters, image_shape: SparseSubspaceClustering(n_clusters),
    "kmeans": lambda n_clusters, image_shape: KMeans(n_clusters, n_init=10),
}


def draw_subsample(X, n_missing, init_size, n_wanted, random_state):
    """Draw rows to cluster, complete ones where there are enough of them.

    Parameters
    ----------
    X : ndarray or tensor of shape (n_samples, n_features)
    n_missing : ndarray of shape (n_samples,)
        Missing entries of every row.
    init_size : int
        Rows to draw, if there are as many.
    n_wanted : int
        If fewer rows than this (and than `init_size`) are complete, rows are
        drawn from all with anything observed, and each missing entry is filled
        with the mean of its feature over the rows drawn.
    random_state : RandomState

    Returns
    -------
    drawn : ndarray of shape (n_drawn,)
        Which rows these are.
    sample : ndarray of shape (n_drawn, n_features)
        The rows, without missing entries.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if len(candidates) < min(init_size, n_wanted):
        candidates = np.flatnonzero(n_missing < X.shape[1])
    random_state.shuffle(candidates)
    drawn = candidates[:init_size].copy()  # the rest can be let go of
    return drawn, fill_with_means(as_numpy(X[drawn]))  # a copy


def gather_rows(X, n_missing, n_rows, random_state, communicator):
    """Bring rows of all processes to the first, for it to draw a subsample of.

    Parameters
    ----------
    X : ndarray or tensor of shape (n_samples, n_features)
        The rows of this process.
    n_missing, random_state
        As in :func:`draw_subsample`.
    n_rows : int
        Rows to bring, if there are as many; all complete if there are as many of these.
    processes : Processes

    Returns
    -------
    rows : ndarray of shape (at most n_rows, n_features) or None
        None in all processes but the first.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if communicator.all_reduce(len(candidates)) < n_rows:
        candidates = np.flatnonzero(n_missing < X.shape[1])
    counts = communicator.all_gather(len(candidates))
    share = apportion(min(n_rows, sum(counts)), counts)[communicator.rank]
    drawn = np.sort(random_state.permutation(candidates)[:share])
    parts = communicator.all_gather(as_numpy(X[drawn]))
    return np.concatenate(parts) if communicator.rank == 0 else None


def fill_with_means(sample):
    """Fill each missing entry with the mean of its feature.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
        Changed in place. A feature never observed is filled with 0.

    Returns
    -------
    sample : ndarray of shape (n_samples, n_features)
    """
    missing = np.isnan(sample)
    if missing.any():
        means = far_means(sample)
        if means is None:
            counts = np.maximum((~missing).sum(axis=0), 1)
            exponent = safe_exponent(sample)
            entries = np.ldexp(np.where(missing, 0, sample), -exponent)
            means = np.ldexp(entries.sum(axis=0) / counts, exponent)
        np.copyto(sample, means.astype(sample.dtype), where=missing)
    return sample


def cluster_subsample(
    sample,
    init,
    n_clusters,
    random_state,
    image_shape=None,
    is_filled=False,
    likelihood=None,
):
    """Cluster the subsample.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    init : str or clusterer
        A name of `INITIALIZERS`, "random", or an object with `fit_predict`,
        which is cloned; those of its random states that are None are set.
    n_clusters : int
    random_state : RandomState
    image_shape : tuple of int, default=None
        Of the images that the rows are; clusterers that go by a name then see
        their scattering features.
    is_filled : bool, default=False
        Whether entries are not data but means. They give clusters shapes that are
        none, so that "auto" is "spectral" for plain features.
    likelihood : Likelihood, default=None
        Of the entries, if they are not normal; clusterers that go by a name then see
        plain features with a variance that is much the same for all means, and "auto"
        is "spectral": the shapes of such clusters are not those of normal ones.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        0 to n_clusters - 1; -1 for samples that a clusterer calls noise.

    Raises
    ------
    ValueError
        If a clusterer finds another number of clusters.
    """
    if n_clusters == 1:
        return np.zeros(len(sample), dtype=np.intp)
    if isinstance(init, str) and init == "random":
        return random_state.permutation(len(sample)) % n_clusters
    is_named = isinstance(init, str)
    if is_named:
        if image_shape is None:
            if likelihood is not None:
                sample = likelihood.variance_stabilize(sample)
            if init == "auto" and (is_filled or likelihood is not None):
                init = "spectral"
        # Pixels, and the subspaces of "ssc", have an origin that means something.
        is_centered = image_shape is None and init != "ssc"
        sample = canonicalize_scale(near_origin(sample) if is_centered else sample)
        clusterer = INITIALIZERS[init](n_clusters, image_shape)
        if image_shape is not None:
            sample = graph_features(sample, image_shape)
    else:
        clusterer = clone(init)
    _seed(clusterer, random_state)
    labels = np.asarray(clusterer.fit_predict(sample))
    found = np.unique(labels[labels >= 0])
    if not is_named and len(found) != n_clusters:
        raise ValueError(
            f"init={init!r} found {len(found)} clusters in a subsample of "
            f"{len(sample)} rows, but n_clusters={n_clusters}. Set both to the "
            "same number."
        )
    return np.where(labels >= 0, np.searchsorted(found, labels), -1)


def canonicalize_scale(sample):
    """Scale to a root mean square of 1, and round the last digits off.

    Where distances tie, as between integers, the last digits decide who is a
    neighbour: they are not the same for the same data in other units.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)

    Returns
    -------
    sample : ndarray of shape (n_samples, n_features)
        A third of the digits that the dtype has are rounded off.
    """
    largest = np.abs(sample).max()
    if largest == 0:
        return sample
    sample = sample / largest  # the squares of large numbers are not to be had
    grid = np.finfo(sample.dtype).eps ** (2 / 3)
    return np.round(sample / np.sqrt(np.mean(sample**2)) / grid) * grid


def to_natural(rows, likelihood):
    """Give the natural parameters that entries speak for, one by one.

    Parameters
    ----------
    rows : ndarray
    likelihood : Likelihood or None

    Returns
    -------
    natural : ndarray
        The rows themselves if they are normal.
    """
    return rows if likelihood is None else likelihood.link(likelihood.to_interior(rows))


def _seed(clusterer, random_state):
    params = clusterer.get_params(deep=True)
    unset = sorted(
        name
        for name, value in params.items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    )
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(unset))
    clusterer.set_params(**dict(zip(unset, seeds.tolist(), strict=True)))


def dictionaries_from_labels(
    sample,
    labels,
    n_clusters,
    n_atoms,
    fit_intercept,
    random_state,
    center=False,
    likelihood=None,
    principal=False,
):
    """Make the atoms of each cluster of some of its samples.

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
        Whether the mean of its own entries is taken off each atom.
    likelihood : Likelihood, default=None
        Of the entries, if they are not normal; atoms and intercepts are then made of
        natural parameters.
    principal : bool, default=False
        Whether atoms are the principal directions of each cluster, longest first,
        in place of samples.

    Returns
    -------
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
        Atoms of norm 1. A cluster of fewer samples than atoms has random
        combinations of its samples as the rest of them.
    intercepts : ndarray of shape (n_clusters, n_features)
        Means of the clusters; zeros without `fit_intercept`.
    """
    groups = _groups(sample, labels, n_clusters, random_state)

    def arranged(deviations):
        n_directions = min(n_atoms, *deviations.shape)
        if principal and len(deviations) > 1 and n_directions:
            pca = PCA(n_directions, random_state=random_state)
            with np.errstate(invalid="ignore"):  # shares of a variance of 0
                return pca.fit(deviations).components_
        return deviations[random_state.permutation(len(deviations))]

    return _stack(
        groups, n_atoms, fit_intercept, random_state, center, likelihood, arranged
    )


def mean_abs_projections(sample, labels, dictionaries, intercepts):
    """Find how far the samples of each cluster reach along its atoms.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Negative for samples of no cluster.
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
    intercepts : ndarray of shape (n_clusters, n_features)

    Returns
    -------
    reaches : ndarray of shape (n_clusters, n_atoms)
        Mean magnitude of the deviations from the intercept: the inverse of the
        likeliest rate of a Laplace distribution. 0 for a cluster without samples.
    """
    reaches = np.zeros(dictionaries.shape[:2])
    for label in np.unique(labels[labels >= 0]):
        deviations = sample[labels == label] - intercepts[label]
        exponent = safe_exponent(deviations)  # sums could overflow
        deviations = np.ldexp(deviations, -exponent)
        means = np.abs(deviations @ dictionaries[label].T).mean(axis=0)
        reaches[label] = np.ldexp(means.astype(np.float64), exponent)
    return reaches


def dictionaries_from_array(
    init, fit_intercept, random_state, center=False, likelihood=None
):
    """Make the atoms of each cluster of the rows given for it, in their order.

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
    n_atoms = init.shape[1]
    how = (fit_intercept, random_state, center, likelihood)
    return _stack(list(init), n_atoms, *how, arranged=np.asarray)


def _groups(sample, labels, n_clusters, random_state):
    """Part samples by their labels; a cluster without any gets one drawn from all."""
    groups = [sample[labels == label] for label in range(n_clusters)]
    return [
        group if len(group) else sample[random_state.randint(len(sample), size=1)]
        for group in groups
    ]


def _stack(groups, n_atoms, fit_intercept, random_state, center, likelihood, arranged):
    natural = [to_natural(group, likelihood) for group in groups]
    everything = np.concatenate(natural)
    exponent = safe_exponent(everything)  # sums could overflow
    natural = [np.ldexp(group, -exponent) for group in natural] if exponent else natural
    # Far from the origin the digits of float32 are not enough for means.
    origin = far_means(everything) if fit_intercept and likelihood is None else None
    if origin is not None:
        natural = [
            (group - np.ldexp(origin, -exponent)).astype(group.dtype)
            for group in natural
        ]
    means = np.stack([group.mean(axis=0) * bool(fit_intercept) for group in natural])
    dictionaries = np.stack(
        [
            _atoms(group - mean, n_atoms, random_state, center, arranged)
            for group, mean in zip(natural, means, strict=True)
        ]
    )
    if likelihood is None or not fit_intercept:
        means = np.ldexp(means, exponent) if exponent else means
        return dictionaries, means if origin is None else means + origin
    # The parameter of a mean is not the mean of parameters. As in training, there is
    # one more row, with one half everywhere.
    means = [(group.sum(axis=0) + 0.5) / (len(group) + 1) for group in groups]
    return dictionaries, likelihood.link(np.stack(means))


def _atoms(deviations, n_atoms, random_state, center, arranged):
    if center:
        deviations = deviations - deviations.mean(axis=1, keepdims=True)
    deviations = with_safe_squares(deviations)
    deviations = arranged(deviations)
    n_members, n_features = deviations.shape
    atoms = deviations[:n_atoms]
    n_left = n_atoms - len(atoms)
    mixing = random_state.standard_normal((n_left, n_members))
    atoms = np.concatenate([atoms, (mixing @ deviations).astype(atoms.dtype)])
    norms = np.linalg.norm(atoms, axis=1, keepdims=True)
    # A cluster whose samples are all the same has no direction of its own.
    is_null = norms[:, 0] <= np.finfo(atoms.dtype).eps * norms.max(initial=0)
    atoms[is_null] = random_state.standard_normal((is_null.sum(), n_features))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
