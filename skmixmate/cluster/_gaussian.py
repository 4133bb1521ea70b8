"""EM of normal distributions, from a clustering."""

import numpy as np
from scipy.special import logsumexp

# EM has converged when the mean log-likelihood grows by less than this.
_TOL, _MAX_ITER = 1e-5, 200

# Added to all variances, as a part of their mean: of features that are constant, or
# combinations of others.
_RIDGE = 1e-6


def gaussian_labels(X, labels, n_clusters):
    """Refine a clustering by a mixture of normal distributions.

    Each has a mean and a covariance matrix of its own. The matrices have the prior of
    the source below, an inverse Wishart distribution of the least degrees of freedom
    that has a mean, around the covariance of all samples divided into as many parts as
    there are clusters. It weighs about as much as one sample, does not depend on the
    units of any direction, and keeps clusters from collapsing.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    labels : ndarray of shape (n_samples,)
        Where EM starts.
    n_clusters : int

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        As they were, if a cluster has no more samples than features, or loses all, or
        if all samples are the same.

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
    mean, before = -np.inf, -np.inf
    for _ in range(_MAX_ITER):
        joint = _log_joint(X, posterior, prior)
        evidence = logsumexp(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        mean, before = evidence.mean(), mean
        if mean < before + _TOL:
            break
    refined = posterior.argmax(axis=1)
    return refined if len(np.unique(refined)) == n_clusters else labels


def _log_joint(X, posterior, prior):
    """M-step, and logarithm of the density of each cluster, times its weight."""
    n_samples, n_features = X.shape
    joint = np.empty_like(posterior)
    for k, shares in enumerate(posterior.T):
        count = shares.sum() + np.finfo(X.dtype).tiny
        deviations = X - shares @ X / count
        scatter = (shares[:, None] * deviations).T @ deviations
        covariance = (prior + scatter) / (2 * n_features + 4 + count)
        factor = np.linalg.cholesky(covariance)
        reduced = np.linalg.solve(factor, deviations.T)  # (n_features, n_samples)
        log_volume = np.log(np.diag(factor)).sum()
        joint[:, k] = np.log(count / n_samples) - log_volume
        joint[:, k] -= np.square(reduced).sum(axis=0) / 2
    return joint
