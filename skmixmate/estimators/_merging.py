"""Clusters that are merged after the fit, and the tree in which they merge."""

import copy
from numbers import Integral
from typing import Self

import numpy as np
from scipy.cluster.hierarchy import cut_tree
from sklearn.utils import check_scalar

from ..cluster._overlaps import overlap_linkage
from ._generative import GenerativeMixMate


class MergingMixMate(GenerativeMixMate):
    """A mixture of dictionaries whose clusters can be merged."""

    overlaps_: np.ndarray | None

    @property
    def linkage_(self) -> np.ndarray:
        """Tree in which the clusters merge, as scipy has it.

        Row k is a merge: the numbers of the two clusters or earlier merges, their
        distance, and the number of clusters in it. See :meth:`cut`.
        """
        overlaps, clusters = self.overlaps_, self.component_labels_
        if overlaps is None or not np.isfinite(overlaps).all():
            raise AttributeError(
                "linkage_ needs finite overlaps_, which a training that has diverged "
                "does not have, nor a model of an earlier version. Fit it again."
            )
        if clusters is not None:
            is_member = np.arange(self.n_clusters_)[:, None] == clusters
            overlaps = is_member @ overlaps @ is_member.T
        return overlap_linkage(overlaps)

    def cut(self, n_clusters: int) -> Self:
        """Merge clusters along the tree `linkage_` until so many are left.

        For a fit with more clusters than the data have: no new fit is needed, and the
        tree shows at which number the clusters that are left are far apart.

        Clusters are close if samples of one fit the other nearly as well. That is
        measured by the posteriors of the samples that the model was fitted to, softened
        by the median margin of energy, so that they are not all 0 and 1
        (`overlaps_`), and compared with clusters of the same sizes that have nothing to
        do with each other: with an overlap of r times that, the distance is
        ``log(1 + 1 / r)``. The posterior of a merged cluster is the sum of those of its
        parts, and so is its overlap. Labels are not used, and nothing is drawn at
        random.

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
            If `n_clusters` is out of its range.
        AttributeError
            If the model has no `overlaps_`, since an earlier version fitted it.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from skmixmate import MixMateClustering
        >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
        >>> mixmate = MixMateClustering(6, random_state=0).fit(X)
        >>> mixmate.linkage_[:, 2].round(1)
        array([0.2, 0.3, 1.5, 1.8, 4.1])
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
