"""The start on a sparse subsample that would take too much memory as a dense array."""

from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from ..data.sparse import SparseRows, column_sums
from ..model.likelihood import Likelihood
from ..model.likelihoods import Gaussian
from .atoms import normalized_atoms

# Entries of a subsample that is made dense: a start takes ten times the memory of its
# subsample.
_DENSE_ENTRIES = 2**21

# Features of a subsample that is made dense whatever its size, so that its atoms are
# those of dense rows.
_FEW_FEATURES = 200

# Components of the truncated singular value decomposition that are clustered, see
# benchmarks/NOTES.rst.
_N_COMPONENTS = 100

# Entries from which the parameters of a likelihood are estimated.
_LIKELIHOOD_ENTRIES = 2**20


def is_small(sample: SparseRows) -> bool:
    """Return whether a subsample can be made dense.

    Parameters
    ----------
    sample : SparseRows of shape (n_samples, n_features)

    Returns
    -------
    is_small : bool
    """
    n_samples, n_features = sample.shape
    return n_features <= _FEW_FEATURES or n_samples * n_features <= _DENSE_ENTRIES


def impute_sparse_means(sample: SparseRows) -> SparseRows:
    """Impute each missing entry with the mean of its feature, zeros included.

    Parameters
    ----------
    sample : SparseRows of shape (n_samples, n_features)
        In memory.

    Returns
    -------
    sample : SparseRows of shape (n_samples, n_features)
    """
    is_missing = np.isnan(sample.entries)
    if not is_missing.any():
        return sample
    entries = np.where(is_missing, 0, sample.entries)
    n_missing = column_sums(sample, is_missing)
    counts = np.maximum(len(sample) - n_missing, 1)
    means = (column_sums(sample, entries) / counts).astype(sample.dtype)
    entries[is_missing] = means[sample.csr.indices[is_missing]]
    return sample.with_entries(entries)


def svd_components(
    sample: SparseRows, likelihood: Likelihood | None, random_state: Any
) -> np.ndarray:
    """Reduce a subsample to the components that initialisers get.

    Parameters
    ----------
    sample : SparseRows of shape (n_samples, n_features)
        In memory, without missing entries.
    likelihood : Likelihood or None
        Of the entries, which are transformed to stabilise their variance.
    random_state : RandomState

    Returns
    -------
    components : float64 ndarray of shape (n_samples, n_components)
        Of a truncated singular value decomposition. Rows have norm 1, or are 0: the
        lengths of documents, or the totals of counts, do not tell clusters apart.
    """
    csr = sample.double().csr
    if likelihood is not None:
        # Zeros stay zeros.
        zero = likelihood.variance_stabilize(np.zeros(1))[0]
        csr = sample.with_entries(likelihood.variance_stabilize(csr.data) - zero).csr
    largest = np.abs(csr.data).max(initial=0)
    if largest == 0:
        return np.zeros((len(sample), 1))
    components, _ = _truncated_svd(csr / largest, random_state)
    return np.asarray(normalize(components))


def _truncated_svd(csr: Any, random_state: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the components of all rows, and the axes that these are along."""
    n_components = min(_N_COMPONENTS, *(size - 1 for size in csr.shape))
    svd = TruncatedSVD(n_components, random_state=random_state)
    return svd.fit_transform(csr), svd.components_


def dictionaries_from_sparse(
    sample: SparseRows,
    labels: np.ndarray,
    n_clusters: int,
    n_atoms: int,
    fit_intercept: bool,
    random_state: np.random.RandomState,
    likelihood: Likelihood | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the atoms of each cluster from its rows, of which few become dense.

    With noise that has a variance, atoms are principal directions of the components of
    the cluster; if there are too few of these, and otherwise, they are rows.

    Parameters
    ----------
    sample : SparseRows of shape (n_samples, n_features)
        In memory, without missing entries.
    labels, n_clusters, n_atoms, fit_intercept, random_state, likelihood
        As in :func:`~skmixmate.initialization.atoms.dictionaries_from_labels`.

    Returns
    -------
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
    intercepts : ndarray of shape (n_clusters, n_features)
    """
    likelihood = likelihood or Gaussian()
    n_features = sample.shape[1]
    components = axes = np.zeros((len(sample), 0))
    if likelihood.has_noise_variance and sample.entries.any():
        components, axes = _truncated_svd(sample.double().csr, random_state)
    dictionaries = np.empty((n_clusters, n_atoms, n_features), sample.dtype)
    intercepts = np.zeros((n_clusters, n_features), sample.dtype)
    for label in range(n_clusters):
        members = np.flatnonzero(labels == label)
        if not len(members):
            members = random_state.randint(len(sample), size=1)
        group = sample[members]
        mean = _natural_mean(group, likelihood) * bool(fit_intercept)
        drawn = group[random_state.permutation(len(group))[:n_atoms]]
        deviations = likelihood.to_natural(drawn.toarray()) - mean
        if components.shape[1]:
            directions = _principal_directions(components[members], fit_intercept)
            deviations = np.concatenate([directions[:n_atoms] @ axes, deviations])
        dictionaries[label] = normalized_atoms(
            deviations.astype(sample.dtype),
            n_atoms,
            random_state,
            center=False,
            select=np.asarray,
        )
        if fit_intercept and likelihood.has_noise_variance:
            intercepts[label] = mean
        elif fit_intercept:
            intercepts[label] = likelihood.mean_to_natural(group)  # type: ignore[arg-type]
    return dictionaries, intercepts


def _principal_directions(components: np.ndarray, centers: bool) -> np.ndarray:
    """Return the principal directions of a cluster, longest first.

    Parameters
    ----------
    components : ndarray of shape (n_rows, n_components)
    centers : bool
        Whether they are about the mean, in place of the origin.

    Returns
    -------
    directions : ndarray of shape (n_directions, n_components)
        Of norm 1, those along which the rows extend.
    """
    deviations = components - components.mean(axis=0) * bool(centers)
    _, lengths, directions = np.linalg.svd(deviations, full_matrices=False)
    eps = np.finfo(np.float64).eps * max(deviations.shape)
    found: np.ndarray = directions[lengths > eps * lengths.max(initial=0)]
    return found


def _natural_mean(group: SparseRows, likelihood: Likelihood) -> np.ndarray:
    """Compute the mean of the natural parameters of single entries."""
    zero = likelihood.to_natural(np.zeros(1))[0]
    entries = likelihood.to_natural(group.entries.astype(np.float64)) - zero
    mean: np.ndarray = zero + column_sums(group, entries) / len(group)
    return mean


def initial_likelihood(
    likelihood: Likelihood,
    sample: SparseRows,
    labels: np.ndarray,
    random_state: np.random.RandomState,
) -> Likelihood:
    """Estimate what is learned of a likelihood from some of the features.

    Parameters
    ----------
    likelihood : Likelihood
        Its own parameters may be "auto".
    sample : SparseRows of shape (n_samples, n_features)
        In memory, without missing entries.
    labels : int ndarray of shape (n_samples,)
    random_state : RandomState

    Returns
    -------
    likelihood : Likelihood
        Without "auto".
    """
    if not likelihood.is_learned:
        return likelihood.initial()
    n_features = max(1, _LIKELIHOOD_ENTRIES // len(sample))
    columns = random_state.permutation(sample.shape[1])[:n_features]
    return likelihood.initial(sample.columns(np.sort(columns)).toarray(), labels)
