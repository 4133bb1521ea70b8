import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris

from skmixmate import MixMateClustering
from skmixmate.plotting import ProfileDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def iris():
    X = load_iris(as_frame=True).data
    return X, MixMateClustering(3, random_state=0).fit(X)


def test_bars_are_the_profile(iris):
    X, mixmate = iris
    display = ProfileDisplay.from_estimator(mixmate, X, n_features=3)
    profile = mixmate.profile(X, n_features=3)
    for (cluster, rows), ax in zip(
        profile.groupby("cluster"), display.axes_, strict=True
    ):
        assert ax.get_title() == f"cluster {cluster}: {rows['size'].iloc[0]} samples"
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert names == list(rows["feature"])
        widths = [bar.get_width() for bar in ax.patches]
        np.testing.assert_allclose(widths, rows["contribution"])
        is_higher = (rows["mean"] > rows["mean_of_others"]).to_numpy()
        colors = [bar.get_facecolor() for bar in ax.patches]
        assert len(set(colors)) == len(set(is_higher))
        for color, other, higher, other_higher in zip(
            colors, colors[1:], is_higher, is_higher[1:], strict=False
        ):
            assert (color == other) == (higher == other_higher)


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame])
def test_parts_of_pixels_are_drawn_as_images(container):
    X, _ = load_digits(n_class=3, return_X_y=True)
    X = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    X = container(X)
    mixmate = MixMateClustering(
        3,
        image_shape=(8, 8),
        representation="pixels",
        max_iter=2,
        tol=0,
        random_state=0,
    ).fit(X)
    display = ProfileDisplay.from_estimator(mixmate, X)
    explanation = mixmate.explain(X)
    for k, ax in enumerate(display.axes_):
        (image,) = ax.images
        mean = explanation.contributions[explanation.labels == k].mean(axis=0)
        np.testing.assert_allclose(np.asarray(image.get_array()).ravel(), mean)


def test_panels_are_drawn_on_existing_axes(iris):
    X, mixmate = iris
    _, axes = plt.subplots(3)
    assert ProfileDisplay.from_estimator(mixmate, X, axes=axes).axes_[2] is axes[2]
    with pytest.raises(ValueError, match=r"should have shape \(1, 3\)"):
        ProfileDisplay.from_estimator(mixmate, X, axes=axes[:2])


@pytest.mark.parametrize("n_features", [0, 2.5, None])
def test_a_number_that_is_no_count_is_refused(iris, n_features):
    X, mixmate = iris
    with pytest.raises(ValueError, match=f"n_features={n_features}"):
        ProfileDisplay.from_estimator(mixmate, X, n_features=n_features)
