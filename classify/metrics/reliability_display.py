"""A picture of confidence against accuracy."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import ndtri

from classify.errors import InputError
from classify.metrics.calibration_error import (
    ReliabilityBins,
    calibration_error,
    reliability_bins,
)
from classify.metrics.labelled import FloatArray, labelled_proba, text_weights
from classify.plots.axes import (
    CURVE,
    CurveStyle,
    axes_for_curves,
    next_style,
    put_legend_above,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ReliabilityDisplay", "wilson_interval"]

_COUNTS = "texts per bin"
# Of the point of the bin with the most texts, in square points.
_MAX_AREA = 90.0
_STRATEGY_WORDS = {"uniform": "equal-width", "quantile": "equal-mass"}


class ReliabilityDisplay:
    """Reliability diagram: accuracy against confidence, with counts.

    Above: a point for each bin at its mean confidence, with the 95 % Wilson interval of
    its accuracy. Below: the texts in each bin. Make one with `from_predictions`.

    Parameters
    ----------
    bins : ReliabilityBins
    error : float
        Calibration error of the bins: top label, l1.
    estimator : str
        How `error` was estimated, as the legend says it.
    name : str, default=None
        What the predictions are called.

    Attributes
    ----------
    ax_, counts_ax_ : matplotlib Axes
        The diagram, and the counts below.
    figure_ : matplotlib Figure
    """

    def __init__(
        self,
        bins: ReliabilityBins,
        *,
        error: float,
        estimator: str,
        name: str | None = None,
    ) -> None:
        self.bins = bins
        self.error = error
        self.estimator = estimator
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        classes: Any = None,
        n_bins: int = 15,
        strategy: Literal["uniform", "quantile"] = "uniform",
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> "ReliabilityDisplay":
        """Draw the reliability of the most likely label.

        Parameters
        ----------
        y_true : array-like, shape (n_texts,)
            Class names; without `classes`, numbers of columns of `y_proba`.
        y_proba : array-like of float, shape (n_texts, n_labels)
            Probabilities; rows sum to 1.
        classes : array-like, shape (n_labels,), default=None
            The class of each column; needed if `y_true` holds names.
        n_bins : int, default=15
        strategy : {"uniform", "quantile"}, default="uniform"
            Edges of the bins, as in `calibration_error`.
        name : str, default=None
            What the legend calls the predictions.
        ax : matplotlib Axes, default=None
            Where to draw, best in a figure of ``layout="constrained"``. None: new
            axes. Axes with displays on them take further ones.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> y_proba = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
        >>> display = ReliabilityDisplay.from_predictions([0, 0, 1, 0], y_proba)
        >>> round(display.error, 3), display.bins.n_texts.tolist()
        (0.1, [2, 2])
        """
        error = calibration_error(
            y_true, y_proba, n_bins=n_bins, strategy=strategy, classes=classes
        )
        texts = labelled_proba(y_true, y_proba, classes)
        bins = reliability_bins(
            texts.confidence,
            texts.correct,
            text_weights(None, len(texts.codes)),
            n_bins=n_bins,
            strategy=strategy,
        )
        estimator = f"l1, {n_bins} {_STRATEGY_WORDS[strategy]} bins"
        display = cls(bins, error=error, estimator=estimator, name=name)
        return display.plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> "ReliabilityDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: new axes.

        Returns
        -------
        self
        """
        self.ax_ = axes_for_curves(ax)
        self.figure_ = self.ax_.figure
        self.counts_ax_ = _counts_below(self.ax_)
        style = next_style(self.ax_)
        self._draw_accuracies(style)
        self._draw_counts(style)
        put_legend_above(self.ax_)
        return self

    def _draw_accuracies(self, style: CurveStyle) -> None:
        n_texts = self.bins.n_texts
        low, high = wilson_interval(self.bins.accuracy * n_texts, n_texts)
        accuracy = self.bins.accuracy
        # Rounding may put an end on the wrong side of the accuracy.
        reach = np.array([accuracy - low, high - accuracy]).clip(0.0)
        title = f"{self.name}, " if self.name else ""
        points, _, _ = self.ax_.errorbar(
            self.bins.confidence,
            accuracy,
            yerr=reach,
            label=f"{title}n = {n_texts.sum()}\nECE {self.error:.3f}: {self.estimator}",
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=3,
            linewidth=1.0,
            elinewidth=0.8,
            capsize=2,
        )
        points.set_gid(CURVE)
        # A bin of few texts says little, and must not look as if it said much.
        self.ax_.scatter(
            self.bins.confidence,
            accuracy,
            s=_MAX_AREA * n_texts / n_texts.max(),
            color=style.color,
            marker=style.marker,
        )

    def _draw_counts(self, style: CurveStyle) -> None:
        counts_ax = self.counts_ax_
        where, n_texts = self.bins.confidence, self.bins.n_texts
        counts_ax.vlines(where, 0, n_texts, style.color, style.line, linewidth=1.0)
        counts_ax.plot(
            where,
            n_texts,
            color=style.color,
            linestyle="none",
            marker=style.marker,
            markersize=4,
        )
        most = max(counts_ax.get_ylim()[1], 1.2 * float(n_texts.max()))
        counts_ax.set_ylim(0, most)


def wilson_interval(
    n_right: FloatArray, n_texts: Any, confidence_level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wilson score interval of a share, each end of shape (n_bins,).

    With p = n_right / n_texts and z the normal quantile::

        (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n)

    References
    ----------
    Wilson: Probable inference, the law of succession, and statistical inference,
    JASA 22, 1927.

    Examples
    --------
    >>> low, high = wilson_interval(np.array([8]), np.array([10]))
    >>> low.round(3), high.round(3)
    (array([0.49]), array([0.943]))
    """
    z = ndtri(0.5 + confidence_level / 2)
    share = n_right / n_texts
    middle = share + z**2 / (2 * n_texts)
    reach = z * np.sqrt(share * (1 - share) / n_texts + (z / (2 * n_texts)) ** 2)
    scale = 1 + z**2 / n_texts
    return (middle - reach) / scale, (middle + reach) / scale


def _counts_below(ax: "Axes") -> "Axes":
    """Return the axes of counts below a diagram; at first, make room for them."""
    cell = ax.get_subplotspec()
    if cell is None:
        raise InputError(
            "ax must be a cell of a grid, so that there can be counts below the "
            "diagram: make it with plt.subplots or figure.add_subplot."
        )
    for other in ax.figure.axes:
        beside = other.get_subplotspec()
        if (
            other.get_label() == _COUNTS
            and beside is not None
            and beside.get_gridspec() is cell.get_gridspec()
        ):
            return other
    halves = cell.subgridspec(2, 1, height_ratios=[3, 1])
    ax.set_subplotspec(halves[0])
    counts = ax.figure.add_subplot(halves[1], label=_COUNTS, sharex=ax)
    counts.set(xlabel="top-label confidence", ylabel="texts", ylim=(0, 1))
    counts.locator_params(axis="y", nbins=3, integer=True)
    ax.tick_params(labelbottom=False)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="_calibrated")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="accuracy")
    return counts
