import re
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import binomtest

from classify.errors import DataError, InputError
from classify.metrics import (
    ReliabilityDisplay,
    RiskCoverageDisplay,
    TrackDisplay,
    aurc_score,
    calibration_error,
)
from classify.metrics.reliability_display import wilson_interval
from classify.scoring import Trajectory

mpl.use("agg")


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.5, 0.5, 0.5], size=200)
    return (proba.cumsum(axis=1) > rng.random((200, 1))).argmax(axis=1), proba


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def grey_levels(ax):
    """Luminance of the labelled lines, in [0, 1]."""
    colors = [
        mpl.colors.to_rgb(line.get_color()) for line in ax.lines if line.get_gid()
    ]
    return [np.dot([0.299, 0.587, 0.114], color) for color in colors]


def assert_nothing_overlaps(figure):
    """Axes, with their ticks and titles, and legends lie apart, inside the figure."""
    figure.draw_without_rendering()
    boxes = [ax.bbox for ax in figure.axes]
    boxes += [ax.get_legend().get_window_extent() for ax in figure.axes[:1]]
    boxes += [
        ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.get_xlabel()
    ]
    for at, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        for other in boxes[:at]:
            assert not box.overlaps(other), (box, other)


@pytest.mark.parametrize("size", [(3.4, 3.8), (6.0, 5.0), (10.0, 7.0)])
def test_nothing_overlaps(predictions, size):
    y, proba = predictions
    display = ReliabilityDisplay.from_predictions(y, proba, name="raw")
    ReliabilityDisplay.from_predictions(y, proba, name="calibrated", ax=display.ax_)
    display.figure_.set_size_inches(size)
    assert_nothing_overlaps(display.figure_)
    display = RiskCoverageDisplay.from_predictions(y, proba, threshold=0.9)
    display.figure_.set_size_inches(size)
    assert_nothing_overlaps(display.figure_)


def test_reliability_points_are_the_bins(predictions):
    y, proba = predictions
    display = ReliabilityDisplay.from_predictions(y, proba, n_bins=5, name="raw")
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    (line,) = [line for line in display.ax_.lines if line.get_gid()]
    # Of five bins on [0, 1] the lowest has no text, at confidences of a third and more.
    expected = [
        (confidence[rows].mean(), right[rows].mean(), rows.sum())
        for low in (0.2, 0.4, 0.6, 0.8)
        for rows in [(confidence > low) & (confidence <= low + 0.2)]
    ]
    assert np.column_stack(line.get_data()) == pytest.approx(
        np.array(expected)[:, :2], abs=1e-9
    )
    (counts,) = display.counts_ax_.lines
    assert counts.get_ydata().tolist() == [n for _, _, n in expected]
    error = calibration_error(y, proba, n_bins=5)
    assert legend_of(display.ax_) == [
        f"raw, n = 200\nECE {error:.3f}: l1, 5 equal-width bins"
    ]


def test_reliability_points_are_as_large_as_their_bins_are_full(predictions):
    display = ReliabilityDisplay.from_predictions(*predictions, n_bins=5)
    points = display.ax_.collections[-1]
    n_texts, bins = display.bins.n_texts, display.bins
    np.testing.assert_allclose(
        points.get_offsets(), np.column_stack([bins.confidence, bins.accuracy])
    )
    sizes = points.get_sizes()
    np.testing.assert_allclose(sizes / sizes.max(), n_texts / n_texts.max())


def test_wilson_intervals_are_scipys():
    n_right, n = np.array([0, 3, 9, 10]), np.array([10, 10, 10, 10])
    low, high = wilson_interval(n_right, n)
    for at, k in enumerate(n_right.tolist()):
        expected = binomtest(k, 10).proportion_ci(0.95, method="wilson")
        assert (low[at], high[at]) == pytest.approx((expected.low, expected.high))


def test_several_reliability_curves_share_axes_and_differ_without_colour(predictions):
    y, proba = predictions
    first = ReliabilityDisplay.from_predictions(y, proba, name="before")
    others = [
        ReliabilityDisplay.from_predictions(
            y, proba, name=name, strategy="quantile", ax=first.ax_
        )
        for name in ("after", "again")
    ]
    assert all(other.counts_ax_ is first.counts_ax_ for other in others)
    assert len(first.figure_.axes) == 2
    assert len(legend_of(first.ax_)) == 3
    lines = [line for line in first.ax_.lines if line.get_gid()]
    assert len({line.get_linestyle() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3
    assert np.diff(sorted(grey_levels(first.ax_))).min() > 0.2


def test_diagrams_of_a_grid_keep_their_own_counts(predictions):
    y, proba = predictions
    _, (left, right) = plt.subplots(1, 2, layout="constrained")
    displays = [
        ReliabilityDisplay.from_predictions(y, proba, ax=ax) for ax in (left, right)
    ]
    assert displays[0].counts_ax_ is not displays[1].counts_ax_
    assert displays[0].ax_ is left


def test_risk_coverage_curve_and_threshold(predictions):
    y, proba = predictions
    display = RiskCoverageDisplay.from_predictions(y, proba, threshold=0.9, name="raw")
    confidence, wrong = proba.max(axis=1), proba.argmax(axis=1) != y
    curve, mark = display.ax_.lines
    assert curve.get_xdata() == pytest.approx(np.arange(1, 201) / 200)
    assert curve.get_ydata()[-1] == pytest.approx(wrong.mean())
    accepted = confidence >= 0.9
    point = (accepted.mean(), wrong[accepted].mean())
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(point)
    aurc = aurc_score(y, proba.argmax(axis=1), confidence)
    assert legend_of(display.ax_) == [
        f"raw, n = 200\nAURC {aurc:.3f}",
        f"confidence ≥ 0.9:\ncoverage {point[0]:.2f}, risk {point[1]:.3f}",
    ]


def test_a_threshold_that_nothing_reaches_is_marked_at_no_coverage(predictions):
    display = RiskCoverageDisplay.from_predictions(*predictions, threshold=np.inf)
    mark = display.ax_.lines[-1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.0, 0.0)


def test_risk_coverage_takes_another_confidence_and_a_second_curve(predictions):
    y, proba = predictions
    first = RiskCoverageDisplay.from_predictions(y, proba, threshold=0.8)
    margin = np.diff(np.sort(proba, axis=1)[:, -2:], axis=1)[:, 0]
    second = RiskCoverageDisplay.from_predictions(
        y, proba, confidence=margin, threshold=0.8, ax=first.ax_
    )
    assert second.aurc == aurc_score(y, proba.argmax(axis=1), margin) != first.aurc
    styles = {line.get_linestyle() for line in first.ax_.lines if line.get_gid()}
    assert styles == {"-", "--"}


def test_free_axes_are_refused(predictions):
    ax = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(InputError) as caught:
        ReliabilityDisplay.from_predictions(*predictions, ax=ax)
    assert str(caught.value) == (
        "ax must be a cell of a grid, so that there can be counts below the diagram: "
        "make it with plt.subplots or figure.add_subplot."
    )


def test_metrics_load_no_matplotlib_and_displays_ask_for_it():
    code = """
import sys
sys.modules["matplotlib"] = None  # as if it were not installed
from classify.errors import MissingDependencyError
from classify.metrics import ReliabilityDisplay
try:
    ReliabilityDisplay.from_predictions([0, 1], [[1.0, 0.0], [0.0, 1.0]])
except MissingDependencyError as error:
    sys.exit(str(error))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.stderr.strip() == (
        "Displays are drawn with matplotlib, which is not installed. Install it with: "
        "pip install 'classify-lm[plots]'"
    )


def test_a_curve_a_word_and_a_step_a_token():
    words = [f"word {at}" for at in range(6)]
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "row": 3,
            "generation": np.repeat([0, 1], 4 * len(words)),
            "step": np.tile(np.repeat(np.arange(4), len(words)), 2),
            "token": np.tile(np.repeat([" a", "$x$", "\n", "."], len(words)), 2),
            "word": words * 8,
            "logprob": -rng.exponential(size=8 * len(words)),
        }
    )
    display = TrackDisplay.from_frame(frame, row=3, generation=1)
    lines = [line for line in display.ax_.lines if line.get_gid()]
    values = frame["logprob"].to_numpy().reshape(2, 4, len(words))[1]
    for line, column in zip(lines, values.T, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), column)
    assert legend_of(display.ax_) == words
    styles = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(styles) == len(words)
    display.figure_.set_size_inches((5.0, 4.0))
    assert_nothing_overlaps(display.figure_)
    message = (
        "The table has no generation 0 of row 0: it was set aside, or has another "
        "number."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        TrackDisplay.from_frame(frame)


def test_a_trajectory_draws_the_tokens_that_come_highest():
    tokens = (" bill", " $hip", "ping", "<end>")
    labels = (("billing",), ("shipping", "shop"), ("shipping",), ("a", "b", "c"))
    logprobs = np.array([[-5.0, -1.0, -9.0, -7.0], [-6.0, -2.0, -np.inf, -0.5]])
    first = (True, True, True, True)
    trajectory = Trajectory(logprobs, tokens, labels, first, (" The", "\n"))
    display = trajectory.plot(n_tracked=3)
    lines = [line for line in display.ax_.lines if line.get_gid()]
    for line, column in zip(lines, (0, 1, 3), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), logprobs[:, column])
    assert legend_of(display.ax_) == [
        "' bill': billing",
        r"' \$hip': shipping, shop",
        "'<end>': 3 labels",
    ]
    assert [each.get_text() for each in display.ax_.get_xticklabels()] == [
        " The",
        r"\n",
    ]
    display.figure_.set_size_inches((5.0, 4.0))
    assert_nothing_overlaps(display.figure_)
    # What comes after the first token of a label is not drawn.
    only = replace(trajectory, is_first=(True, False, False, True)).plot()
    assert only.words == ("' bill': billing", "'<end>': 3 labels")
    # A thought without a token has axes, and no curve.
    empty = Trajectory(np.empty((0, 4)), tokens, labels, first, ())
    assert empty.plot(ax=display.ax_).tokens == ()
