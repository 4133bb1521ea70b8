"""What makes a cluster: its typical rows, and the features that tell it apart."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_consistent_length, check_scalar

from ..data.readers import RowReader
from ..data.sparse import as_dense
from ..data.validation import validate_rows
from ..files.atomic import check_writable
from ..utils.types import Data
from ._inference import FittedModel, margins_of_entries
from ._merging import MergingMixMate
from ._report import write_report
from ._state import Rows


class ExplainingMixMate(MergingMixMate):
    """Explanations of the clusters that a mixture of dictionaries found."""

    n_features_in_: int

    def explain(self, X: Data) -> Bunch:
        """Divide the margin of each sample between two clusters among its features.

        The margin is the difference between the two lowest energies: the log-odds of
        the cluster of the sample against the runner-up. An energy (Eq. 5) is a sum of
        an error for each feature and of a penalty on the code, which can be divided
        among the features as well, because codes minimise the sum. A feature with a
        large positive part in the margin fits the cluster of the sample much better
        than the runner-up; one with a negative part speaks for the runner-up.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        explanation : Bunch
            - ``contributions``, ndarray of shape (n_samples, n_features): the part of
              each feature in the margin; 0 for missing entries;
            - ``offsets``, ndarray of shape (n_samples,): the rest of the margin, mostly
              constants of the clusters, such as the logarithms of their weights;
            - ``margins``, ndarray of shape (n_samples,): sums of both;
            - ``labels``, ``runners_up``, ndarrays of shape (n_samples,): the two
              clusters.

        Raises
        ------
        ValueError
            If there is only one cluster, or scattering coefficients are modelled: these
            belong to no single pixel.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skmixmate import MixMateClustering
        >>> X = load_iris(as_frame=True).data
        >>> mixmate = MixMateClustering(3, random_state=0).fit(X)
        >>> explanation = mixmate.explain(X)
        >>> X.columns[explanation.contributions.mean(axis=0).argmax()]
        'petal width (cm)'
        """
        rows, model = self._validate_explained(X)
        contributions, margins, labels, runners_up = model.evaluate(
            rows,
            margins_of_entries,
            lambda batch: batch.margins,
            lambda batch: batch.labels,
            lambda batch: batch.runners_up,
        )
        return Bunch(
            contributions=contributions,
            offsets=margins - contributions.sum(axis=1),
            margins=margins,
            labels=labels,
            runners_up=runners_up,
        )

    def representatives(self, X: Data, n: int = 5) -> Bunch:
        """Find the samples that are most typical of each cluster, and most doubtful.

        Typical samples are those of largest margin to the next cluster, among the half
        of the cluster that has the lower energies: a sample far from all clusters may
        have a large margin as well. Doubtful ones have the smallest margins.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        n : int, default=5
            How many samples of each kind and cluster.

        Returns
        -------
        representatives : Bunch
            - ``typical``, int ndarray of shape (n_clusters, n): rows of X, the most
              typical first; -1 where the cluster has fewer samples;
            - ``doubtful``, int ndarray of the same shape: the most doubtful first.

        Raises
        ------
        ValueError
            If `n` is less than 1.
        TypeError
            If `n` is not an integer.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skmixmate import MixMateClustering
        >>> X, y = load_digits(return_X_y=True)
        >>> mixmate = MixMateClustering(10, random_state=0).fit(X)
        >>> y[mixmate.representatives(X, n=4).typical[4]]
        array([5, 5, 5, 5])
        """
        self._check_is_fitted()
        check_scalar(n, "n", Integral, min_val=1)
        rows, model = validate_rows(self, X, reset=False), self._model()
        has_margins = self.n_clusters_ > 1
        labels, energies, margins = model.evaluate(
            model.state.lazy_model_space(rows),
            lambda batch: batch.labels,
            lambda batch: batch.energies.amin(dim=0),
            # Without a second cluster, what fits well is typical.
            lambda batch: batch.margins if has_margins else -batch.energies[0],
        )
        shape = self.n_clusters_, n
        typical, doubtful = (np.full(shape, -1) for _ in range(2))
        for k in range(self.n_clusters_):
            members = np.flatnonzero(labels == k)
            order = members[np.argsort(margins[members], kind="stable")]
            doubtful[k, : len(order)] = order[:n]
            if len(order):
                order = order[energies[order] <= np.median(energies[members])][::-1]
            typical[k, : len(order)] = order[:n]
        return Bunch(typical=typical, doubtful=doubtful)

    def profile(self, X: Data, n_features: int = 5) -> Any:
        """Summarize each cluster by the features that tell it from the others.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        n_features : int, default=5
            How many features of each cluster, those with the largest mean part in the
            margins of its samples, see :meth:`explain`.

        Returns
        -------
        profile : DataFrame or dict of str to ndarray
            A row for each of these features of each cluster that has samples, a
            dictionary of the columns if pandas is not installed:

            - ``cluster``, and its ``size``, the number of samples;
            - ``margin``: mean of the margins of its samples;
            - ``feature``: name of the feature, the most important first;
            - ``mean``, ``mean_of_others``: of the feature in this cluster and in all
              others, in the units of X; NaN if it was not observed;
            - ``contribution``: mean part of the feature in the margins.

        Raises
        ------
        ValueError
            If `n_features` is less than 1; and as :meth:`explain`.
        TypeError
            If `n_features` is not an integer.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skmixmate import MixMateClustering
        >>> X = load_iris(as_frame=True).data
        >>> mixmate = MixMateClustering(3, random_state=0).fit(X)
        >>> mixmate.profile(X, n_features=2)[["cluster", "size", "feature"]]
           cluster  size            feature
        0        0    49  petal length (cm)
        1        0    49   petal width (cm)
        2        1    50   petal width (cm)
        3        1    50  petal length (cm)
        4        2    51   petal width (cm)
        5        2    51  petal length (cm)
        """
        check_scalar(n_features, "n_features", Integral, min_val=1)
        rows, model = self._validate_explained(X)
        sums = _ClusterSums(self.n_clusters_, self.n_features_in_)
        for values, labels, margins, contributions in _iter_explained(model, rows):
            sums.add(values, labels, margins, contributions)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{index}" for index in range(self.n_features_in_)])
        return _as_frame(sums.table(names, n_features))

    def report(
        self,
        X: Data,
        path: str | os.PathLike[str] = "clusters.html",
        *,
        records: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Write a report of the clusters: one HTML file, for any browser.

        It has a map of the samples, the sizes of the clusters, and for each cluster
        what tells it from the others, with typical and doubtful samples. Images are
        shown as images. The file needs no network, and contains the samples that it
        shows. It is written atomically.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        path : str or path-like, default="clusters.html"
            File to write, which is replaced if it exists.
        records : DataFrame or mapping of str to sequence, default=None
            Columns of length n_samples that are shown of a sample in place of its
            features, such as names or the text of which X has embeddings, or, for a
            Pipeline, the data before the other steps:
            ``pipeline[-1].report(pipeline[:-1].transform(X), records=X)``. Means are
            those of the columns that have the name of a feature.

        Raises
        ------
        ValueError
            If X does not fit the estimator, or a column of `records` has another
            length.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from sklearn.datasets import load_iris
        >>> from skmixmate import MixMateClustering
        >>> X = load_iris(as_frame=True).data
        >>> mixmate = MixMateClustering(3, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "clusters.html")
        ...     mixmate.report(X, path)
        ...     path.read_text(encoding="utf-8")[:15]
        '<!doctype html>'
        """
        self._check_is_fitted()
        check_writable(path)
        rows = validate_rows(self, X, reset=False)
        if records is not None:
            for name in records:
                check_consistent_length(records[name], range(len(rows)))
        write_report(self, X, rows, path, records)

    def _validate_explained(self, X: Data) -> tuple[Rows, FittedModel]:
        """Validate data whose features can be told apart in the energies."""
        self._check_is_fitted()
        if self.n_clusters_ == 1:
            raise ValueError("A model with n_clusters_=1 has no margins to explain.")
        if self.representation_ is not None:
            raise ValueError(
                "This model was fitted to scattering coefficients, which belong to no "
                "single pixel, so that margins cannot be divided among pixels. Fit it "
                "with representation='pixels', or use representatives(X)."
            )
        return validate_rows(self, X, reset=False), self._model()


class _ClusterSums:
    """Sums over the samples of each cluster.

    Parameters
    ----------
    n_clusters, n_features : int
    """

    def __init__(self, n_clusters: int, n_features: int) -> None:
        self.sizes = np.zeros(n_clusters)
        self.margins = np.zeros(n_clusters)
        self.contributions = np.zeros((n_clusters, n_features))
        self.values = np.zeros((n_clusters, n_features))
        self.counts = np.zeros((n_clusters, n_features))  # of observed values

    def add(
        self,
        values: np.ndarray,
        labels: np.ndarray,
        margins: np.ndarray,
        contributions: np.ndarray,
    ) -> None:
        """Add rows, their labels, and their margins and parts of these."""
        members = np.eye(len(self.sizes))[labels].T  # (n_clusters, n_rows)
        is_observed = ~np.isnan(values)
        self.sizes += members.sum(axis=1)
        self.margins += members @ margins
        self.contributions += members @ contributions
        self.values += members @ np.where(is_observed, values, 0)
        self.counts += members @ is_observed

    def table(self, names: np.ndarray, n_features: int) -> dict[str, np.ndarray]:
        """Return the columns of a profile; see :meth:`ExplainingMixMate.profile`."""
        clusters = np.flatnonzero(self.sizes)
        order = np.argsort(-self.contributions[clusters], axis=1, kind="stable")
        features = order[:, :n_features]  # (n_found, n_shown)
        index = clusters[:, None], features
        repeated = np.repeat(clusters, features.shape[1])
        with np.errstate(invalid="ignore"):  # nothing was observed
            means = self.values / self.counts
            others = self.values.sum(axis=0) - self.values
            others = others / (self.counts.sum(axis=0) - self.counts)
        sizes = self.sizes[repeated]
        return {
            "cluster": repeated,
            "size": sizes.astype(np.intp),
            "margin": self.margins[repeated] / sizes,
            "feature": np.asarray(names)[features.ravel()],
            "mean": means[index].ravel(),
            "mean_of_others": others[index].ravel(),
            "contribution": self.contributions[index].ravel() / sizes,
        }


def _iter_explained(model: FittedModel, rows: Rows) -> Iterator[list[np.ndarray]]:
    """Yield rows with their labels, margins and parts of these, a chunk at a time."""
    # A reader has one position: the rows are read by another.
    again = copy.copy(rows) if isinstance(rows, RowReader) else rows
    for chunk, arrays in model.iter_outputs(
        rows,
        lambda batch: batch.labels,
        lambda batch: batch.margins,
        margins_of_entries,
    ):
        yield [as_dense(again[chunk]), *arrays]


def _as_frame(columns: dict[str, np.ndarray]) -> Any:
    """Return a DataFrame of columns, or the columns if pandas is not installed."""
    try:
        from pandas import DataFrame
    except ImportError:
        return columns
    return DataFrame(columns)
