"""EM for a Gaussian mixture, initialized by a clustering, and its goodness of fit."""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp
from scipy.stats import beta, ks_1samp

# EM has converged when the mean log-likelihood increases by less than `_TOL`.
_TOL, _MAX_ITER = 1e-5, 200

# Added to all variances, as a fraction of their mean, so that the covariance is regular
# if features are constant or linear combinations of others.
_RIDGE = 1e-6

# For comparisons of mixtures: when EM has converged, and what is added to variances, as
# a fraction of the mean square. Samples that nearly coincide are no likely cluster.
_COARSE_TOL, _COARSE_MAX_ITER, _VARIANCE_RIDGE = 1e-3, 60, 1e-4

# Parameters of the covariance matrix of a component, as a function of the number of
# features, by kind.
COVARIANCES: dict[str, Callable[[int], int]] = {
    "spherical": lambda n_features: 1,
    "diag": lambda n_features: n_features,
    "full": lambda n_features: n_features * (n_features + 1) // 2,
}


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
    posterior = np.eye(n_clusters)[labels]  # (n_samples, n_clusters)
    mean, previous_mean = -np.inf, -np.inf
    for _ in range(_MAX_ITER):
        joint = _log_joint(X, posterior, prior)
        evidence = logsumexp(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        mean, previous_mean = evidence.mean(), mean
        if mean < previous_mean + _TOL:
            break
    refined = posterior.argmax(axis=1)
    return refined if len(np.unique(refined)) == n_clusters else labels


def _log_joint(X: np.ndarray, posterior: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Compute the M-step, and the log of the weighted density of each component.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    posterior : ndarray of shape (n_samples, n_clusters)
    prior : ndarray of shape (n_features, n_features)

    Returns
    -------
    joint : ndarray of shape (n_samples, n_clusters)
    """
    n_samples, n_features = X.shape
    joint = np.empty_like(posterior)
    for k, responsibilities in enumerate(posterior.T):
        count = responsibilities.sum() + np.finfo(X.dtype).tiny
        deviations = X - responsibilities @ X / count
        scatter = (responsibilities[:, None] * deviations).T @ deviations
        covariance = (prior + scatter) / (2 * n_features + 4 + count)
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        whitened = deviations @ factor.T  # (n_samples, n_features)
        half_log_det = np.log(np.diag(factor)).sum()
        joint[:, k] = np.log(count / n_samples) + half_log_det
        joint[:, k] -= np.einsum("ij,ij->i", whitened, whitened) / 2
    return joint


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
    # The log-density of a component is linear in the features and their products.
    products = (X[:, :, None] * X[:, None]).reshape(n_samples, -1)
    posterior = np.eye(n_clusters)[labels]  # (n_samples, n_clusters)
    mean, previous_mean = -np.inf, -np.inf
    for _ in range(_COARSE_MAX_ITER):
        counts = posterior.sum(axis=0) + np.finfo(X.dtype).tiny
        means = posterior.T @ X / counts[:, None]
        moments = posterior.T @ products / counts[:, None]
        covariances = moments.reshape(-1, n_features, n_features)
        covariances -= means[:, :, None] * means[:, None]
        factors = np.linalg.inv(
            np.linalg.cholesky(_constrain(covariances, covariance) + ridge)
        )
        precisions = factors.mT @ factors  # (n_clusters, n_features, n_features)
        slopes = (precisions @ means[:, :, None])[:, :, 0]
        offsets = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        offsets += np.log(counts / n_samples) - (slopes * means).sum(axis=1) / 2
        joint = X @ slopes.T - products @ precisions.reshape(n_clusters, -1).T / 2
        joint += offsets
        evidence = logsumexp(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        mean, previous_mean = evidence.mean(), mean
        if mean < previous_mean + _COARSE_TOL:
            break
    n_params = n_clusters * (1 + n_features + COVARIANCES[covariance](n_features)) - 1
    bic = n_samples * (n_features * np.log(2 * np.pi) - 2 * mean)
    bic += n_params * np.log(n_samples)
    return float(bic), float(bic - 2 * np.log(posterior.max(axis=1)).sum())


def _constrain(covariances: np.ndarray, kind: str) -> np.ndarray:
    """Set the entries of covariance matrices that are 0 or equal in their kind.

    Parameters
    ----------
    covariances : ndarray of shape (n_clusters, n_features, n_features)
    kind : {"spherical", "diag", "full"}

    Returns
    -------
    covariances : ndarray of shape (n_clusters, n_features, n_features)
    """
    if kind == "full":
        return covariances
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if kind == "spherical":
        variances = variances.mean(axis=1, keepdims=True)
    return variances[:, None] * np.eye(covariances.shape[1])
