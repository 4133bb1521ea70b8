"""Clusters that are merged after the fit, and the tree in which they merge."""

import copy
from numbers import Integral
from typing import Self

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from sklearn.utils import check_scalar

from ._generative import GenerativeMixMate
from ._state import count_clusters


class MergingMixMate(GenerativeMixMate):
    """A mixture of dictionaries whose clusters can be merged."""

    excess_energies_: np.ndarray | None

    @property
    def linkage_(self) -> np.ndarray:
        """Tree in which the clusters merge, as :mod:`scipy.cluster.hierarchy` has it.

        Row k is a merge: the numbers of the two clusters or earlier merges, the
        distance, and the number of clusters in it. See :meth:`cut`.
        """
        distances = squareform(self._distances())
        if not len(distances):  # there is one cluster
            return np.empty((0, 4))
        return linkage(distances, "complete")

    def cut(self, n_clusters: int) -> Self:
        """Merge clusters along the tree `linkage_` until so many are left.

        For a fit with more clusters than the data have: no new fit is needed, and the
        tree shows at which number the clusters that are left are far apart.

        The distance of two clusters is computed from the energies of the samples that
        the model was fitted to, without labels: with :math:`S_{ij}` the growth of the
        mean loss if the samples of cluster i were assigned to cluster j
        (`excess_energies_`), it is :math:`S_{ij} S_{ji} / (S_{ij} + S_{ji})`. With no
        atoms it is Ward's criterion, the growth of the squared distances if the two
        clusters had one centre. A merged cluster is as far from another as the two
        most distant of their parts.

        Parameters
        ----------
        n_clusters : int
            Number of clusters that are left, from 1 to `n_clusters_`.

        Returns
        -------
        merged : MixMateClustering
            A new estimator; this one is not changed. See :meth:`merge`.

        Raises
        ------
        ValueError
            If `n_clusters` is out of its range; if the model was fitted by an earlier
            version, which did not keep `excess_energies_`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from skmixmate import MixMateClustering
        >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
        >>> mixmate = MixMateClustering(6, random_state=0).fit(X)
        >>> mixmate.linkage_[:, 2].round(1)
        array([ 0.1,  0.1, 14.1, 28.4, 41.1])
        >>> merged = mixmate.cut(4)
        >>> merged.n_clusters_
        4
        """
        self._check_is_fitted()
        check_scalar(
            n_clusters, "n_clusters", Integral, min_val=1, max_val=self.n_clusters_
        )
        if self.n_clusters_ == 1:
            return self._with_clusters(np.zeros(1, int))
        return self._with_clusters(cut_tree(self.linkage_, n_clusters)[:, 0])

    def merge(self, *clusters: int) -> Self:
        """Merge some clusters into one.

        The dictionaries are kept: the merged cluster is a mixture of several, and its
        samples are those of its parts. So clusters that are merged one after the other
        are nested, and merging changes neither codes nor reconstructions.

        Parameters
        ----------
        *clusters : int
            Two or more clusters. The merged one gets the lowest of their numbers; gaps
            are closed.

        Returns
        -------
        merged : MixMateClustering
            A new estimator, which shares arrays with this one; this one is not
            changed. Its `component_labels_` have the cluster of each dictionary.
            `labels_` and `predict` follow; `predict_proba` is the sum of the
            probabilities of the parts. All that has one row or block per dictionary
            keeps it: `dictionaries_`, `weights_`, :meth:`encode`, :meth:`transform`.
            :meth:`partial_fit`, and `fit` with ``warm_start=True``, train all
            dictionaries and keep the clusters merged; any other `fit` starts again
            with the parameter `n_clusters`.

        Raises
        ------
        ValueError
            If there are not at least two different clusters, or one does not exist.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from skmixmate import MixMateClustering
        >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
        >>> mixmate = MixMateClustering(6, random_state=0).fit(X)
        >>> merged = mixmate.merge(0, 3)
        >>> merged.component_labels_
        array([0, 1, 2, 0, 3, 4])
        """
        self._check_is_fitted()
        n_clusters = self.n_clusters_
        are_valid = all(
            isinstance(k, Integral) and 0 <= k < n_clusters for k in clusters
        )
        if not are_valid or len(set(clusters)) < 2:
            raise ValueError(
                f"clusters={clusters!r} should be at least two different integers from "
                f"0 to {n_clusters - 1}."
            )
        labels = np.arange(n_clusters)
        labels[list(clusters)] = min(clusters)
        return self._with_clusters(labels)

    def _with_clusters(self, groups: np.ndarray) -> Self:
        """Return a copy in which the clusters with the same entry are one.

        Parameters
        ----------
        groups : int ndarray of shape (n_clusters,)
            Any numbers; clusters are numbered in the order of their first parts.
        """
        _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
        groups = first.argsort().argsort()[groups]
        merged = copy.copy(self)
        clusters = self.component_labels_
        merged.component_labels_ = groups if clusters is None else groups[clusters]
        merged.labels_ = groups[self.labels_]
        return merged

    def _distances(self) -> np.ndarray:
        """Compute the distances of the clusters, of shape (n_clusters, n_clusters)."""
        growth = self.excess_energies_
        if growth is None:
            raise AttributeError(
                "linkage_ needs excess_energies_, which the version that this model "
                "was fitted by did not keep. Fit it again."
            )
        with np.errstate(divide="ignore"):
            # 0 for a cluster without samples, which merges first
            distances = 1 / (1 / growth + 1 / growth.T)
        clusters = self.component_labels_
        if clusters is None:
            return distances
        n_clusters = count_clusters(self.weights_, clusters)
        merged = np.zeros((n_clusters, n_clusters))
        np.maximum.at(merged, (clusters[:, None], clusters), distances)
        np.fill_diagonal(merged, 0)
        return merged
