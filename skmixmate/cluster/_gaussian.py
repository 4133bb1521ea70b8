"""EM for mixtures of normal distributions, started by a clustering, and their fit."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import beta, ks_1samp

# EM has converged when the mean log-likelihood increases by less than `_TOL`.
_TOL, _MAX_ITER = 1e-5, 200

# Added to all variances, as a fraction of their mean, so that the covariance is regular
# if features are constant or linear combinations of others.
_RIDGE = 1e-6

# For comparisons of mixtures: when EM has converged, and what is added to variances, as
# a fraction of the mean square. Samples that nearly coincide are no likely cluster.
_COARSE_TOL, _COARSE_MAX_ITER, _VARIANCE_RIDGE = 1e-3, 60, 1e-4

# Likewise for mixtures that are only to be members of an ensemble.
_MEMBER_MAX_ITER, _MEMBER_RIDGE = 30, 1e-3

# Parameters of the covariance matrix of a component, as a function of the number of
# features, by kind.
COVARIANCES: dict[str, Callable[[int], int]] = {
    "spherical": lambda n_features: 1,
    "diag": lambda n_features: n_features,
    "full": lambda n_features: n_features * (n_features + 1) // 2,
}

# Products of two features that are kept during EM; more are computed as needed.
_MAX_PRODUCTS = 2**24


def gaussian_labels(X: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Refine a clustering by a Gaussian mixture.

    Each component has its own mean and full covariance matrix. The covariances have the
    prior of the reference below: an inverse Wishart distribution with the smallest
    degrees of freedom for which its mean exists, centred at the covariance of all
    samples divided by ``n_clusters ** (2 / n_features)``. It has about the weight of
    one sample, is invariant to linear transformations of the features, and prevents
    clusters from collapsing.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        The initial clustering.
    n_clusters : int

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        The initial labels if a cluster has no more samples than features, or becomes
        empty, or if all samples are the same.

    References
    ----------
    C. Fraley and A. E. Raftery, Bayesian regularization for normal mixture estimation
    and model-based clustering, Journal of Classification 24, 2007.
    """
    n_samples, n_features = X.shape
    if np.bincount(labels, minlength=n_clusters).min() <= n_features:
        return labels
    X = X.astype(np.float64) - X.mean(axis=0)
    scatter = X.T @ X / n_samples
    if not scatter.any():
        return labels
    prior = scatter / n_clusters ** (2 / n_features)
    prior += _RIDGE * np.trace(scatter) / n_features * np.eye(n_features)

    def posterior_mode(scatters: np.ndarray, counts: np.ndarray) -> np.ndarray:
        degrees = (2 * n_features + 4 + counts)[:, None, None]
        mode: np.ndarray = (prior + scatters) / degrees
        return mode

    posterior, _ = _fit_mixture(X, labels, n_clusters, posterior_mode, _TOL, _MAX_ITER)
    refined = posterior.argmax(axis=1)
    return refined if len(np.unique(refined)) == n_clusters else labels


def constrained_labels(X: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """Refine a clustering by a Gaussian mixture with constrained covariances.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        float64, centred, with a mean variance of 1.
    labels : ndarray of shape (n_samples,)
        The initial clustering.
    kind : {"diag", "tied"}
        Whether features are independent in each cluster, or all clusters have the same
        covariance.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        Of as many clusters or fewer.
    """
    found, initial = np.unique(labels, return_inverse=True)
    ridge = _MEMBER_RIDGE * np.eye(X.shape[1])
    posterior, _ = _fit_mixture(
        X,
        initial,
        len(found),
        lambda scatters, counts: _covariances(scatters, counts, kind) + ridge,
        _COARSE_TOL,
        _MEMBER_MAX_ITER,
    )
    refined: np.ndarray = posterior.argmax(axis=1)
    return refined


def _fit_mixture(
    X: np.ndarray,
    labels: np.ndarray,
    n_clusters: int,
    covariances_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    tol: float,
    max_iter: int,
) -> tuple[np.ndarray, float]:
    """Fit a Gaussian mixture by EM, from a clustering.

    The log-density of a component is linear in the features and their products, so that
    the M-step and the E-step are a matrix product each.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        float64, centred.
    labels : ndarray of shape (n_samples,)
    n_clusters : int
    covariances_of : callable
        Estimates the covariances, of shape (n_clusters, n_features, n_features), from
        the sums of outer products of deviations, of the same shape, and the counts.
    tol : float
        EM ends when the mean log-likelihood increases by less.
    max_iter : int

    Returns
    -------
    posterior : ndarray of shape (n_samples, n_clusters)
    mean : float
        Of the log-likelihood, without ``n_features / 2 * log(2 * pi)``.
    """
    n_samples, n_features = X.shape
    rows, columns = np.tril_indices(n_features)
    blocks = _Products(X, rows, columns)
    # Products of two different features stand for two entries of a symmetric matrix.
    factors_of_products = np.where(rows == columns, 0.5, 1.0)
    posterior = np.eye(n_clusters)[labels]  # (n_samples, n_clusters)
    mean, previous_mean = -np.inf, -np.inf
    for _ in range(max_iter):
        counts = posterior.sum(axis=0) + np.finfo(X.dtype).tiny
        means = posterior.T @ X / counts[:, None]
        sums = sum(posterior[block].T @ products for block, products in blocks)
        scatters = np.empty((n_clusters, n_features, n_features))
        scatters[:, rows, columns] = scatters[:, columns, rows] = sums
        scatters -= (counts[:, None] * means)[:, :, None] * means[:, None]
        factors = np.linalg.inv(np.linalg.cholesky(covariances_of(scatters, counts)))
        precisions = factors.mT @ factors  # (n_clusters, n_features, n_features)
        slopes = (precisions @ means[:, :, None])[:, :, 0]
        offsets = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        offsets += np.log(counts / n_samples) - (slopes * means).sum(axis=1) / 2
        joint = X @ slopes.T + offsets  # (n_samples, n_clusters)
        curvatures = factors_of_products * precisions[:, rows, columns]
        for block, products in blocks:
            joint[block] -= products @ curvatures.T
        largest = joint.max(axis=1, keepdims=True)
        posterior = np.exp(joint - largest)
        total = posterior.sum(axis=1, keepdims=True)
        posterior /= total
        mean, previous_mean = float(np.mean(largest + np.log(total))), mean
        if mean < previous_mean + tol:
            break
    return posterior, mean


def _covariances(scatters: np.ndarray, counts: np.ndarray, kind: str) -> np.ndarray:
    """Estimate covariance matrices by maximum likelihood.

    Parameters
    ----------
    scatters : ndarray of shape (n_clusters, n_features, n_features)
        Sums of outer products of the deviations from the means.
    counts : ndarray of shape (n_clusters,)
    kind : {"spherical", "diag", "tied", "full"}

    Returns
    -------
    covariances : ndarray of shape (n_clusters, n_features, n_features)
    """
    if kind == "tied":
        return np.broadcast_to(scatters.sum(axis=0) / counts.sum(), scatters.shape)
    covariances: np.ndarray = scatters / counts[:, None, None]
    if kind == "full":
        return covariances
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if kind == "spherical":
        variances = variances.mean(axis=1, keepdims=True)
    return variances[:, None] * np.eye(scatters.shape[1])


class _Products:
    """Products of the features of all samples, a block of rows at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    rows, columns : int ndarray of shape (n_products,)
        The two features of each product.
    """

    def __init__(self, X: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        self.X, self.rows, self.columns = X, rows, columns
        self.size = max(1, _MAX_PRODUCTS // len(rows))
        self.only = self._compute(slice(None)) if len(X) <= self.size else None

    def _compute(self, block: slice) -> np.ndarray:
        products: np.ndarray = self.X[block, self.rows] * self.X[block, self.columns]
        return products

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        if self.only is not None:
            yield slice(None), self.only
            return
        for start in range(0, len(self.X), self.size):
            block = slice(start, start + self.size)
            yield block, self._compute(block)


def normal_misfit(X: np.ndarray, labels: np.ndarray, n_clusters: int) -> float:
    """Measure how far clusters are from normal distributions.

    In a sample of a normal distribution the squared Mahalanobis distances from the mean
    of the sample follow, up to a factor, a beta distribution, in any number of
    features.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
    n_clusters : int

    Returns
    -------
    misfit : float
        Kolmogorov-Smirnov distance of their distribution function, over all clusters,
        from the one that they should have, between 0 and 1; 1 if a cluster has hardly
        more samples than features.

    References
    ----------
    R. Gnanadesikan and J. R. Kettenring, Robust estimates, residuals, and outlier
    detection with multiresponse data, Biometrics 28, 1972.
    """
    n_features = X.shape[1]
    quantiles = []
    for label in range(n_clusters):
        deviations = X[labels == label].astype(np.float64)
        count = len(deviations)
        if count <= n_features + 2:
            return 1.0
        deviations -= deviations.mean(axis=0)
        covariance = deviations.T @ deviations / (count - 1)
        covariance += _RIDGE * np.trace(covariance) / n_features * np.eye(n_features)
        if not covariance.any():
            return 1.0
        solved = np.linalg.solve(covariance, deviations.T).T
        squares = np.einsum("ij,ij->i", deviations, solved)
        fractions = squares * count / (count - 1) ** 2
        parameters = n_features / 2, (count - n_features - 1) / 2
        quantiles.append(beta.cdf(fractions.clip(max=1), *parameters))
    return float(
        ks_1samp(np.concatenate(quantiles), lambda q: q, method="asymp").statistic
    )


def mixture_criteria(
    X: np.ndarray, labels: np.ndarray, n_clusters: int, covariance: str
) -> tuple[float, float]:
    """Fit a mixture of normal distributions, and compute criteria of its size.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        float64, centred, few features.
    labels : ndarray of shape (n_samples,)
        Where EM starts.
    n_clusters : int
    covariance : {"spherical", "diag", "full"}
        Of each component.

    Returns
    -------
    bic : float
        Minus twice the log-likelihood, plus the logarithm of the number of samples for
        each parameter.
    icl : float
        The same for the log-likelihood of samples and their most likely components: it
        is larger the more the components overlap.

    References
    ----------
    C. Biernacki, G. Celeux and G. Govaert, Assessing a mixture model for clustering
    with the integrated completed likelihood, IEEE TPAMI 22, 2000.
    """
    n_samples, n_features = X.shape
    ridge = _VARIANCE_RIDGE * np.square(X).mean() * np.eye(n_features)
    posterior, mean = _fit_mixture(
        X,
        labels,
        n_clusters,
        lambda scatters, counts: _covariances(scatters, counts, covariance) + ridge,
        _COARSE_TOL,
        _COARSE_MAX_ITER,
    )
    n_params = n_clusters * (1 + n_features + COVARIANCES[covariance](n_features)) - 1
    bic = n_samples * (n_features * np.log(2 * np.pi) - 2 * mean)
    bic += n_params * np.log(n_samples)
    return float(bic), float(bic - 2 * np.log(posterior.max(axis=1)).sum())
