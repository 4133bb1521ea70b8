import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.plotting import (
    ConfusionDisplay,
    DendrogramDisplay,
    DictionaryDisplay,
    EnergyDisplay,
    LossCurveDisplay,
    MapDisplay,
    NClustersDisplay,
    ProfileDisplay,
    ReconstructionDisplay,
)

from ..sources import File, Pairs, Stream

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")

X, y = load_digits(n_class=3, return_X_y=True)
IMAGE = (8, 8)


def fit(X, **params):
    defaults = {
        "n_clusters": 3,
        "init": "kmeans",
        "max_iter": 2,
        "tol": 0,
        "random_state": 0,
    }
    return MixMateClustering(**{**defaults, **params}).fit(X)


@pytest.fixture(scope="module")
def plain():
    return fit(X, n_atoms=5, image_shape=None)


@pytest.fixture(scope="module")
def on_pixels():
    return fit(X, image_shape=IMAGE, representation="pixels")


@pytest.fixture(scope="module")
def on_scattering():
    return fit(X, image_shape=IMAGE, n_atoms=5, init="auto")


def image_in(ax):
    (image,) = ax.images
    return np.asarray(image.get_array())


def steps_in(ax):
    return [patch.get_data().values for patch in ax.patches]


def texts(axes):
    return [ax.get_title() for ax in axes]


# --- dictionaries --------------------------------------------------------------------


def test_each_row_shows_an_intercept_and_atoms(plain):
    display = DictionaryDisplay.from_estimator(plain, image_shape=IMAGE)
    assert display.axes_.shape == (3, 1 + 5)
    assert display.figure_ is display.axes_[0, 0].figure
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == [
        "cluster 0",
        "cluster 1",
        "cluster 2",
    ]
    intercept, atom = image_in(display.axes_[2, 0]), image_in(display.axes_[2, 1])
    np.testing.assert_array_equal(intercept.ravel(), plain.intercepts_[2])
    np.testing.assert_array_equal(atom.ravel(), plain.dictionaries_[2, 0])


def test_models_without_intercepts_show_only_atoms(on_pixels):
    display = DictionaryDisplay.from_estimator(on_pixels, n_atoms=4)
    assert display.axes_.shape == (3, 4)
    atom = image_in(display.axes_[1, 3])
    np.testing.assert_array_equal(atom, on_pixels.dictionaries_[1, 3].reshape(IMAGE))


def test_models_without_atoms_show_only_intercepts():
    display = DictionaryDisplay.from_estimator(fit(X, n_atoms=0))
    assert display.axes_.shape == (3, 1)


def test_models_without_atoms_show_intercepts_that_are_zero():
    mixmate = fit(np.zeros((20, 4)), n_clusters=1, n_atoms=0)
    display = DictionaryDisplay.from_estimator(mixmate)
    assert display.axes_.shape == (1, 1)


def test_the_colours_of_atoms_are_symmetric_about_zero(on_pixels):
    display = DictionaryDisplay.from_estimator(on_pixels, n_atoms=2)
    for ax in display.axes_.flat:
        low, high = ax.images[0].get_clim()
        assert -low == high == np.abs(image_in(ax)).max()


@pytest.mark.parametrize("container", [np.asarray, torch.from_numpy, pd.DataFrame])
def test_atoms_are_sorted_by_usage(plain, container):
    codes, labels = plain.encode(X), plain.labels_
    display = DictionaryDisplay.from_estimator(plain, container(X), n_atoms=3)
    for k in range(3):
        order = np.argsort(-np.abs(codes[labels == k, k]).sum(axis=0))[:3]
        assert texts(display.axes_[k, 1:]) == [str(d) for d in order]
        np.testing.assert_array_equal(display.atoms[k], plain.dictionaries_[k, order])


def test_usage_does_not_depend_on_set_output(plain):
    expected = DictionaryDisplay.from_estimator(plain, X).indices
    plain.set_output(transform="pandas")
    indices = DictionaryDisplay.from_estimator(plain, X).indices
    plain.set_output(transform="default")
    np.testing.assert_array_equal(indices, expected)


def test_selected_clusters_are_drawn_in_order(plain):
    display = DictionaryDisplay.from_estimator(plain, clusters=[2, 0])
    assert display.axes_.shape[0] == 2
    np.testing.assert_array_equal(display.atoms, plain.dictionaries_[[2, 0]])


def test_scattering_atoms_are_drawn_as_changes_of_the_image(on_scattering):
    display = DictionaryDisplay.from_estimator(on_scattering, X[:50])
    code = np.zeros((2, 3, 5))
    code[:, 1, 0] = [1, 3]
    one, three = on_scattering.inverse_transform(code.reshape(2, -1))
    drawn = display.atoms[1][display.indices[1] == 0][0]
    np.testing.assert_allclose(drawn, (three - one) / 2, atol=1e-8)
    np.testing.assert_allclose(display.intercepts[1] + drawn, one, atol=1e-8)
    assert image_in(display.axes_[1, 1]).shape == IMAGE


def test_atoms_of_tabular_data_are_drawn_as_steps(plain):
    display = DictionaryDisplay.from_estimator(plain, n_atoms=1)
    assert not display.axes_[0, 1].images
    (steps,) = steps_in(display.axes_[0, 1])
    np.testing.assert_array_equal(steps, plain.dictionaries_[0, 0])


@pytest.mark.parametrize(
    ("image_shape", "drawn"), [((8, 8, 1), (8, 8)), ((8, 4, 2), (8, 8))]
)
def test_channels_are_drawn_side_by_side(plain, image_shape, drawn):
    display = DictionaryDisplay.from_estimator(plain, image_shape=image_shape)
    image = image_in(display.axes_[0, 1])
    assert image.shape == drawn
    first = plain.dictionaries_[0, 0].reshape(image_shape)[:, :, 0]
    np.testing.assert_array_equal(image[:, : first.shape[1]], first)


def test_three_channels_are_colours():
    images = np.random.default_rng(0).random((60, 4 * 4 * 3))
    display = DictionaryDisplay.from_estimator(
        fit(images, n_atoms=2), image_shape=(4, 4, 3)
    )
    image = image_in(display.axes_[0, 1])
    assert image.shape == (4, 4, 4)
    assert image.min() >= 0
    assert image.max() <= 1


def test_atoms_are_drawn_on_existing_axes(plain):
    _, axes = plt.subplots(1, 6)
    display = DictionaryDisplay.from_estimator(plain, clusters=[1], axes=axes)
    np.testing.assert_array_equal(display.axes_[0], axes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_atoms": 0}, "n_atoms=0 should be an integer >= 1"),
        ({"clusters": [3]}, r"clusters=\[3\] should be .* from 0 to 2"),
        ({"clusters": [0.5]}, r"clusters=\[0.5\] should be"),
        ({"clusters": []}, r"clusters=\[\] should be"),
        ({"image_shape": (8, 9)}, r"image_shape=\(8, 9\) should be .* n_features=64"),
        ({"image_shape": 64}, "image_shape=64 should be"),
        ({"axes": np.empty((2, 2))}, r"axes has shape \(2, 2\), but .* \(3, 6\)"),
    ],
)
def test_invalid_parameters_of_dictionaries_are_named(plain, params, message):
    with pytest.raises(ValueError, match=message):
        DictionaryDisplay.from_estimator(plain, **params)


# --- reconstructions -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["plain", "on_pixels", "on_scattering"])
def test_the_assigned_cluster_reconstructs_as_the_estimator_does(model, request):
    mixmate = request.getfixturevalue(model)
    display = ReconstructionDisplay.from_estimator(mixmate, X[7], image_shape=IMAGE)
    label = mixmate.labels_[7]
    assert display.label == label
    drawn = image_in(display.axes_[0, 1 + label])
    np.testing.assert_allclose(drawn.ravel(), mixmate.reconstruct(X[7:8])[0], atol=1e-8)
    np.testing.assert_array_equal(image_in(display.axes_[0, 0]).ravel(), X[7])


@pytest.mark.parametrize("n_atoms", [0, 2])
@pytest.mark.parametrize("likelihood", ["poisson", "bernoulli"])
def test_reconstructions_are_means_for_other_likelihoods(likelihood, n_atoms):
    rates = np.array([[9.0, 1, 4, 2, 6, 3], [1.0, 8, 2, 5, 3, 7]])
    rng = np.random.default_rng(0)
    rows = rng.poisson(rates[rng.integers(2, size=200)]).astype(float)
    if likelihood == "bernoulli":
        rows = (rows > 3).astype(float)
    mixmate = fit(rows, n_clusters=2, n_atoms=n_atoms, likelihood=likelihood)
    display = ReconstructionDisplay.from_estimator(mixmate, rows[0])
    mean = mixmate.reconstruct(rows[:1])[0]
    np.testing.assert_allclose(display.reconstructions[display.label], mean)
    error = ((mean - rows[0]) ** 2).mean()
    figures = display.axes_[1, 1 + display.label].get_xlabel()
    assert figures.startswith(f"{error:.3g}\n")
    codes = np.zeros((2, 2, n_atoms))
    codes[[0, 1], [0, 1]] = mixmate.encode(rows[:1])[0]
    if codes.any(axis=(1, 2)).all():
        both = mixmate.inverse_transform(codes.reshape(2, -1))
        np.testing.assert_allclose(display.reconstructions, both)


def test_error_sparsity_and_energy_are_below_each_code(plain):
    display = ReconstructionDisplay.from_estimator(plain, X[7])
    codes, energies = plain.encode(X[7:8])[0], plain.energies(X[7:8])[0]
    assert display.axes_[1, 0].get_xlabel() == "MSE\nL0\nenergy"
    for k in range(3):
        features = plain.intercepts_[k] + codes[k] @ plain.dictionaries_[k]
        error = ((features - X[7]) ** 2).mean()
        n_nonzero = (codes[k] != 0).sum()
        figures = f"{error:.3g}\n{n_nonzero}\n{energies[k]:.4g}"
        assert display.axes_[1, 1 + k].get_xlabel() == figures
        (stems,) = display.axes_[1, 1 + k].collections
        heights = [segment[1, 1] for segment in stems.get_segments()]
        np.testing.assert_array_equal(heights, codes[k][codes[k] != 0])


def test_the_assigned_cluster_is_framed(plain):
    display = ReconstructionDisplay.from_estimator(plain, X[7])
    widths = [ax.spines["top"].get_linewidth() for ax in display.axes_[0, 1:]]
    assert np.argmax(widths) == plain.labels_[7]
    assert len(set(widths)) == 2

    others = np.delete(np.arange(3), plain.labels_[7])
    display = ReconstructionDisplay.from_estimator(plain, X[7], clusters=others)
    widths = [ax.spines["top"].get_linewidth() for ax in display.axes_[0, 1:]]
    assert len(set(widths)) == 1


def test_missing_pixels_are_hatched_and_ignored_in_the_error(on_pixels):
    x = X[7].copy()
    x[20:30] = np.nan
    display = ReconstructionDisplay.from_estimator(on_pixels, x)
    sample, assigned = display.axes_[0, 0], display.axes_[0, 1 + display.label]
    np.testing.assert_array_equal(
        np.ma.getmaskarray(sample.images[0].get_array()).ravel(), np.isnan(x)
    )
    assert sample.patch.get_hatch()
    assert not assigned.patch.get_hatch()
    imputed = on_pixels.reconstruct(x[None])[0]
    np.testing.assert_allclose(image_in(assigned).ravel(), imputed)
    error = np.nanmean((imputed - x) ** 2)
    figures = display.axes_[1, 1 + display.label].get_xlabel()
    assert figures.startswith(f"{error:.3g}\n")


def test_missing_pixels_of_colour_images_are_transparent():
    images = np.random.default_rng(0).random((60, 4 * 4 * 3))
    mixmate = fit(images, n_atoms=2)
    images[0, 0] = np.nan
    display = ReconstructionDisplay.from_estimator(
        mixmate, images[0], image_shape=(4, 4, 3)
    )
    opacity = image_in(display.axes_[0, 0])[:, :, 3]
    assert opacity[0, 0] == 0
    assert opacity.sum() == 15


def test_tabular_reconstructions_are_drawn_over_the_sample(plain):
    display = ReconstructionDisplay.from_estimator(plain, X[7])
    assert len(steps_in(display.axes_[0, 0])) == 1
    sample, reconstruction = steps_in(display.axes_[0, 2])
    np.testing.assert_array_equal(sample, X[7])
    np.testing.assert_array_equal(reconstruction, display.reconstructions[1])


def test_a_model_without_atoms_has_empty_codes():
    display = ReconstructionDisplay.from_estimator(fit(X, n_atoms=0), X[0])
    assert display.codes.shape == (3, 0)


def test_a_sample_may_be_a_series_a_row_or_a_tensor():
    frame = load_iris(as_frame=True).data
    mixmate = fit(frame, n_atoms=2)
    displays = [
        ReconstructionDisplay.from_estimator(mixmate, x)
        for x in (frame.iloc[3], frame.iloc[3:4])
    ]
    np.testing.assert_array_equal(displays[0].energies, displays[1].energies)

    mixmate = fit(frame.to_numpy(), n_atoms=2)
    x = torch.tensor(frame.to_numpy()[3])
    display = ReconstructionDisplay.from_estimator(mixmate, x)
    np.testing.assert_array_equal(display.energies, displays[0].energies)


def sample_in_containers(x):
    row = x[None]
    return {
        "list": x.tolist(),
        "list of a list": row.tolist(),
        "masked array": np.ma.array(np.nan_to_num(x, nan=99), mask=np.isnan(x)),
        "file": File(row, 1),
        "dataset": TensorDataset(torch.from_numpy(row)),
        "loader": DataLoader(TensorDataset(torch.from_numpy(row))),
        "stream": Stream([x]),
        "read-only": np.broadcast_to(x, row.shape),
    }


@pytest.mark.parametrize("container", sample_in_containers(X[0]))
def test_a_sample_may_be_in_any_container(plain, container):
    x = X[7].copy()
    x[20:30] = np.nan
    expected = ReconstructionDisplay.from_estimator(plain, x)
    display = ReconstructionDisplay.from_estimator(
        plain, sample_in_containers(x)[container]
    )
    for name in ("sample", "reconstructions", "codes", "energies"):
        np.testing.assert_array_equal(getattr(display, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:2], r"x has shape \(2, 64\), but should be one sample"),
        (np.full(64, np.nan), "x has only missing entries"),
        (X[0, :5], "5 features"),
        (Pairs(X), r"x has shape \(537, 64\), but should be one sample"),
        (Stream(list(X[:2])), r"x has shape \(2, 64\), but should be one sample"),
        ([], "Expected 2D array|0 feature"),
        (X[0] * 1j, "Complex data not supported"),
    ],
)
def test_invalid_samples_are_named(plain, x, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(plain, x)


# --- loss curves ---------------------------------------------------------------------


def test_several_loss_curves_on_one_axis(plain, on_pixels):
    first = LossCurveDisplay.from_estimator(plain, label="plain", linestyle="--")
    second = LossCurveDisplay.from_estimator(on_pixels, ax=first.ax_, label="pixels")
    assert second.ax_ is first.ax_
    assert second.figure_ is first.figure_
    np.testing.assert_array_equal(first.line_.get_xdata(), [1, 2])
    np.testing.assert_array_equal(first.line_.get_ydata(), plain.loss_curve_)
    assert first.line_.get_linestyle() == "--"
    names = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert names == ["plain", "pixels"]


def test_a_loss_curve_without_label_has_no_legend(plain):
    assert LossCurveDisplay.from_estimator(plain).ax_.get_legend() is None


def test_a_fit_without_epochs_has_no_loss_curve():
    with pytest.raises(ValueError, match=r"n_iter_=0 epochs were run \(max_iter=0\)"):
        LossCurveDisplay.from_estimator(fit(X, n_atoms=2, max_iter=0))


# --- number of clusters --------------------------------------------------------------


@pytest.fixture(scope="module")
def counted():
    return fit(X, n_clusters="auto", n_atoms=2, image_shape=None)


def test_the_number_of_clusters_is_the_peak_of_its_score(counted):
    display = NClustersDisplay.from_estimator(counted, linewidth=3)
    score, gaps, mixture = (line.get_ydata() for line in display.lines_)
    numbers = display.lines_[0].get_xdata()
    assert numbers[score.argmax()] == counted.n_clusters_
    assert display.ax_.get_title() == f"n_clusters_ = {counted.n_clusters_}"
    assert display.lines_[0].get_linewidth() == 3
    np.testing.assert_allclose(score, gaps + mixture)


def test_a_given_number_of_clusters_has_no_evidence(plain):
    with pytest.raises(ValueError, match=r"n_clusters_=3 was given.*'auto'"):
        NClustersDisplay.from_estimator(plain)


# --- confusion -----------------------------------------------------------------------


def tick_labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_clusters_are_ordered_by_their_classes():
    display = ConfusionDisplay.from_predictions(
        ["a", "a", "a", "b", "b", "c"], [1, 1, 2, 2, 2, 0]
    )
    expected = [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    np.testing.assert_array_equal(image_in(display.ax_), expected)
    assert tick_labels(display.ax_.xaxis) == ["1", "2", "0"]
    assert tick_labels(display.ax_.yaxis) == ["a", "b", "c"]
    assert display.ax_.get_title() == "accuracy 0.833"
    assert [text.get_text() for text in display.texts_] == ["2", "1", "2", "1"]


def test_confusion_with_more_clusters_than_classes():
    display = ConfusionDisplay.from_predictions(
        ["a", "a", "b", "b", "b"], [0, 1, 2, 2, 1]
    )
    assert tick_labels(display.ax_.yaxis) == ["a", "b"]
    assert sorted(display.clusters) == [0, 1, 2]
    assert display.clusters[1] == 2
    assert display.counts.shape == (2, 3)
    assert display.accuracy == 0.6


def test_confusion_with_fewer_clusters_than_classes():
    display = ConfusionDisplay.from_predictions([0, 1, 1, 2, 2], [5, 5, 5, 3, 3])
    np.testing.assert_array_equal(display.clusters, [5, 3])
    np.testing.assert_array_equal(display.counts, [[1, 0], [2, 0], [0, 2]])


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("true", [[2 / 3, 1 / 3], [0, 1]]),
        ("pred", [[1, 1 / 2], [0, 1 / 2]]),
        ("all", [[1 / 2, 1 / 4], [0, 1 / 4]]),
    ],
)
def test_confusion_is_normalized_by_classes_clusters_or_all(normalize, expected):
    display = ConfusionDisplay.from_predictions(
        [0, 0, 0, 1], [0, 0, 1, 1], normalize=normalize
    )
    np.testing.assert_allclose(image_in(display.ax_), expected)
    assert display.texts_[0].get_text() == f"{expected[0][0]:.2f}"


def test_values_can_be_omitted():
    display = ConfusionDisplay.from_predictions([0, 1], [0, 1], include_values=False)
    assert not display.ax_.texts


def test_values_contrast_with_their_background():
    display = ConfusionDisplay.from_predictions([0] * 9 + [1], [0] * 9 + [1])
    many, few = display.texts_
    cmap = display.image_.get_cmap()
    assert tuple(many.get_color()) == cmap(0.0)
    assert tuple(few.get_color()) == cmap(1.0)


def test_confusion_of_any_clusterer(plain):
    for estimator in (plain, make_pipeline(StandardScaler(), KMeans(3)).fit(X)):
        display = ConfusionDisplay.from_estimator(estimator, X, y)
        assert display.counts.sum() == len(X)
        score = clustering_accuracy_score(y, estimator.predict(X))
        assert display.accuracy == score


def test_invalid_input_of_confusion_is_named(plain):
    with pytest.raises(
        TypeError, match=r"estimator=StandardScaler\(\) has no method predict"
    ):
        ConfusionDisplay.from_estimator(StandardScaler(), X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ConfusionDisplay.from_estimator(plain, X, y[:-1])
    with pytest.raises(ValueError, match="normalize='rows' should be 'true'"):
        ConfusionDisplay.from_predictions(y, y, normalize="rows")


# --- energies ------------------------------------------------------------------------


def histograms_in(ax):
    """Return the heights of the bars, from the top row to the bottom."""
    return [
        np.abs(patch.get_data().values - patch.get_data().baseline)
        for patch in ax.patches
    ]


def test_margins_are_log_odds_against_the_next_cluster(plain):
    display = EnergyDisplay.from_estimator(plain, X)
    low, high = np.sort(plain.predict_proba(X[:40]), axis=1)[:, -2:].T
    is_positive = low > 1e-200
    assert is_positive.any()
    np.testing.assert_allclose(
        display.margins[:40][is_positive], np.log(high / low)[is_positive], rtol=1e-6
    )
    np.testing.assert_array_equal(display.labels, plain.labels_)


def test_the_most_ambiguous_cluster_is_on_top(plain):
    display = EnergyDisplay.from_estimator(plain, X)
    medians = [np.median(display.margins[display.labels == k]) for k in range(3)]
    np.testing.assert_array_equal(display.clusters_, np.argsort(medians))
    top = display.clusters_[0]
    size = np.sum(display.labels == top)
    assert tick_labels(display.ax_.yaxis)[0] == f"{top} ({size})"
    assert display.ax_.get_xscale() == "log"


def test_right_and_wrong_samples_are_stacked():
    display = EnergyDisplay(
        np.array([3.0, 3.0, 3.0, 9.0]),
        labels=np.array([0, 0, 0, 1]),
        correct=np.array([True, True, False, True]),
    ).plot()
    right, wrong = histograms_in(display.ax_)[:2]
    assert right.max() == pytest.approx(2 * wrong.max())
    assert right.argmax() == wrong.argmax()
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["right", "wrong", "median"]


def test_samples_are_right_if_their_cluster_matches_their_class(plain):
    names = np.array(["zero", "one", "two"])[y]
    display = EnergyDisplay.from_estimator(plain, X, names)
    assert display.correct.mean() == clustering_accuracy_score(y, plain.labels_)


def test_ties_are_at_the_left_end():
    margins, labels = np.array([0.0, 0.0, 5.0]), np.array([0, 0, 0])
    display = EnergyDisplay(margins, labels=labels, correct=None).plot()
    (heights,) = histograms_in(display.ax_)
    assert heights[0] == 2 * heights[1:].max()


def test_invalid_input_of_energies_is_named(plain):
    with pytest.raises(ValueError, match=r"n_clusters=1; .* at least 2"):
        EnergyDisplay.from_estimator(fit(X, n_clusters=1, n_atoms=2), X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EnergyDisplay.from_estimator(plain, X, y[:-1])


# --- data in other containers --------------------------------------------------------


def containers(X):
    tensor = torch.from_numpy(X)
    return {
        "tensor": tensor,
        "list": X.tolist(),
        "frame": pd.DataFrame(X),
        "file": File(X, 4096),
        "dataset": Pairs(X),
        "loader": DataLoader(TensorDataset(tensor), 50, shuffle=True),
        "stream": Stream(list(X)),
        "masked": np.ma.array(X),
    }


def classes(y):
    names = np.array(["zero", "one", "two"])[y]
    return {
        "list": y.tolist(),
        "tensor": torch.from_numpy(y),
        "series": pd.Series(y),
        "names": names.tolist(),
        "categories": pd.Series(names, dtype="category"),
    }


@pytest.mark.parametrize("container", containers(X))
def test_displays_accept_data_in_any_container(plain, container):
    data = containers(X)[container]
    energies = EnergyDisplay.from_estimator(plain, data, y)
    expected = EnergyDisplay.from_estimator(plain, X, y)
    np.testing.assert_allclose(energies.margins, expected.margins)
    np.testing.assert_array_equal(energies.correct, expected.correct)
    confusion = ConfusionDisplay.from_estimator(plain, data, y)
    assert confusion.accuracy == clustering_accuracy_score(y, plain.labels_)
    dictionary = DictionaryDisplay.from_estimator(plain, data)
    expected = DictionaryDisplay.from_estimator(plain, X)
    np.testing.assert_array_equal(dictionary.indices, expected.indices)


def test_displays_accept_dask_arrays(plain):
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(X, chunks=(100, 64))
    lazy = lazy[da.ones(len(X), chunks=100) > 0]  # of a length that is not known
    labels = da.from_array(y, chunks=50)
    display = EnergyDisplay.from_estimator(plain, lazy, labels)
    assert display.correct.mean() == clustering_accuracy_score(y, plain.labels_)
    assert ConfusionDisplay.from_estimator(plain, lazy, labels).counts.sum() == len(X)
    np.testing.assert_array_equal(
        DictionaryDisplay.from_estimator(plain, lazy).indices,
        DictionaryDisplay.from_estimator(plain, X).indices,
    )
    sample = ReconstructionDisplay.from_estimator(plain, da.from_array(X[7])).sample
    np.testing.assert_array_equal(sample, X[7])


@pytest.mark.parametrize("container", classes(y))
def test_displays_accept_classes_in_any_container(plain, container):
    targets = classes(y)[container]
    accuracy = clustering_accuracy_score(y, plain.labels_)
    assert ConfusionDisplay.from_estimator(plain, X, targets).accuracy == accuracy
    assert EnergyDisplay.from_estimator(plain, X, targets).correct.mean() == accuracy


@pytest.mark.parametrize("display", [ConfusionDisplay, EnergyDisplay])
def test_classes_of_another_length_than_a_loader_are_named(plain, display):
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), 50)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        display.from_estimator(plain, loader, y[:-1])


# --- all -----------------------------------------------------------------------------

CALLS = {
    "dictionary": lambda mixmate: DictionaryDisplay.from_estimator(mixmate),
    "reconstruction": lambda mixmate: ReconstructionDisplay.from_estimator(
        mixmate, X[0]
    ),
    "loss_curve": lambda mixmate: LossCurveDisplay.from_estimator(mixmate),
    "n_clusters": lambda mixmate: NClustersDisplay.from_estimator(mixmate),
    "confusion": lambda mixmate: ConfusionDisplay.from_estimator(mixmate, X, y),
    "energy": lambda mixmate: EnergyDisplay.from_estimator(mixmate, X, y),
    "map": lambda mixmate: MapDisplay.from_estimator(mixmate, X, y),
    "profile": lambda mixmate: ProfileDisplay.from_estimator(mixmate, X),
    "dendrogram": lambda mixmate: DendrogramDisplay.from_estimator(mixmate),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_missing_matplotlib_is_named(plain, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError, match=r"Display.from_estimator needs .*skmixmate\[plot\]"
    ):
        call(plain)


@pytest.mark.parametrize(
    "name",
    [
        "dictionary",
        "reconstruction",
        "loss_curve",
        "n_clusters",
        "energy",
        "map",
        "profile",
    ],
)
def test_other_estimators_are_rejected(name):
    with pytest.raises(TypeError, match=r"estimator=KMeans\(\) should be a fitted"):
        CALLS[name](KMeans())
    with pytest.raises(NotFittedError):
        CALLS[name](MixMateClustering())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_text_is_visible_on_a_dark_background(counted, call):
    with plt.style.context("dark_background"):
        display = call(counted)
        colors = {
            text.get_color()
            for ax in display.figure_.axes
            for text in (ax.title, ax.xaxis.label, ax.yaxis.label)
        }
    assert colors == {"white"}


@pytest.mark.slow
def test_importing_the_package_imports_no_matplotlib():
    script = (
        "import sys, skmixmate, skmixmate.plotting; print('matplotlib' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# --- dendrogram and merged clusters --------------------------------------------------


@pytest.fixture(scope="module")
def split():
    return fit(X, n_clusters=5, n_atoms=5, image_shape=IMAGE, representation="pixels")


def test_leaves_are_the_clusters(split):
    display = DendrogramDisplay.from_estimator(split)
    assert sorted(display.clusters_.tolist()) == [0, 1, 2, 3, 4]
    texts = [label.get_text() for label in display.ax_.get_xticklabels()]
    sizes = np.bincount(split.labels_)
    assert texts == [f"{k}\n({sizes[k]})" for k in display.clusters_]
    assert display.image_axes_ == []


def test_a_dotted_line_cuts_the_tree(split):
    display = DendrogramDisplay.from_estimator(split, n_clusters=3)
    (line,) = display.ax_.lines
    below = split.linkage_[:, 2] < line.get_ydata()[0]
    assert below.sum() == 5 - 3
    with pytest.raises(ValueError, match="n_clusters=6 should be from 1 to 5"):
        display.plot(n_clusters=6)


def test_pictures_are_the_means_of_the_clusters(split):
    display = DendrogramDisplay.from_estimator(split, X.reshape(-1, *IMAGE))
    assert len(display.image_axes_) == 5
    mean = X[split.labels_ == 2].mean(axis=0).reshape(IMAGE)
    np.testing.assert_allclose(display.images[2], mean)
    with pytest.raises(ValueError, match="X should be None where rows are no images"):
        DendrogramDisplay.from_estimator(fit(X, n_atoms=5, image_shape=None), X)


def test_a_tree_of_one_cluster_is_an_error(split):
    with pytest.raises(ValueError, match="n_clusters_=1"):
        DendrogramDisplay.from_estimator(split.cut(1))


def test_displays_of_merged_clusters(split):
    merged = split.cut(3)
    dictionaries = DictionaryDisplay.from_estimator(merged, X)
    assert len(dictionaries.axes_) == 5
    assert dictionaries.axes_[4, 0].get_ylabel() == "component 4"
    reconstruction = ReconstructionDisplay.from_estimator(merged, X[0])
    expected = ReconstructionDisplay.from_estimator(split, X[0])
    np.testing.assert_array_equal(reconstruction.energies, expected.energies)
    assert reconstruction.axes_[0, 1].get_title() == "component 0"
    assert len(EnergyDisplay.from_estimator(merged, X).clusters_) == 3
    assert len(DendrogramDisplay.from_estimator(merged).clusters_) == 3
