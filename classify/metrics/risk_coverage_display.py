"""A picture of the error rate against the share of texts that are answered."""

from typing import TYPE_CHECKING, Any

from classify.metrics.labelled import labelled_proba
from classify.metrics.risk_coverage import (
    RiskCoverageCurve,
    aurc_score,
    risk_coverage_curve,
)
from classify.plots.axes import (
    CURVE,
    CurveStyle,
    axes_for_curves,
    next_style,
    put_legend_above,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RiskCoverageDisplay"]


class RiskCoverageDisplay:
    """Risk-coverage curve, with the point of a threshold marked.

    Make one with `from_predictions`.

    Parameters
    ----------
    curve : RiskCoverageCurve
    aurc : float
        Area under the curve, as `aurc_score` defines it.
    n_texts : int
    threshold : float, default=None
        Confidence from which on texts are accepted.
    name : str, default=None
        What the predictions are called.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(
        self,
        curve: RiskCoverageCurve,
        *,
        aurc: float,
        n_texts: int,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        self.curve = curve
        self.aurc = aurc
        self.n_texts = n_texts
        self.threshold = threshold
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        classes: Any = None,
        confidence: Any = None,
        threshold: float | None = None,
        name: str | None = None,
        ax: "Axes | None" = None,
    ) -> "RiskCoverageDisplay":
        """Draw the risk of the most likely label at every coverage.

        Parameters
        ----------
        y_true : array-like, shape (n_texts,)
            Class names; without `classes`, numbers of columns of `y_proba`.
        y_proba : array-like of float, shape (n_texts, n_labels)
            Probabilities; rows sum to 1.
        classes : array-like, shape (n_labels,), default=None
            The class of each column; needed if `y_true` holds names.
        confidence : array-like of float, shape (n_texts,), default=None
            What texts are sorted by. None: the probability of the most likely label.
        threshold : float, default=None
            Marks where texts with confidence >= threshold are accepted, such as the
            `threshold_` of a `SelectiveClassifier`.
        name : str, default=None
            What the legend calls the predictions.
        ax : matplotlib Axes, default=None
            Where to draw, best in a figure of ``layout="constrained"``. None: new
            axes. Axes with displays on them take further ones.

        Returns
        -------
        RiskCoverageDisplay

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> y_proba = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]
        >>> display = RiskCoverageDisplay.from_predictions([0, 1, 1], y_proba)
        >>> round(display.aurc, 3)
        0.278
        """
        texts = labelled_proba(y_true, y_proba, classes)
        predicted = texts.proba.argmax(axis=1)
        by = texts.confidence if confidence is None else confidence
        display = cls(
            risk_coverage_curve(texts.codes, predicted, by),
            aurc=aurc_score(texts.codes, predicted, by),
            n_texts=len(texts.codes),
            threshold=threshold,
            name=name,
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> "RiskCoverageDisplay":
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
        style = next_style(self.ax_)
        title = f"{self.name}, " if self.name else ""
        self.ax_.plot(
            self.curve.coverage,
            self.curve.risk,
            label=f"{title}n = {self.n_texts}\nAURC {self.aurc:.3f}",
            color=style.color,
            linestyle=style.line,
            linewidth=1.4,
            gid=CURVE,
        )
        if self.threshold is not None:
            self._mark(self.threshold, style)
        self.ax_.set(xlim=(0, 1), xlabel="coverage (share answered)", ylabel="risk")
        # Limits from what is drawn, then down to 0.
        self.ax_.relim()
        self.ax_.autoscale(axis="y")
        self.ax_.set_ylim(bottom=0)
        put_legend_above(self.ax_)
        return self

    def _mark(self, threshold: float, style: CurveStyle) -> None:
        n_points = int((self.curve.thresholds >= threshold).sum())
        coverage = self.curve.coverage[n_points - 1] if n_points else 0.0
        risk = self.curve.risk[n_points - 1] if n_points else 0.0
        self.ax_.plot(
            coverage,
            risk,
            label=f"confidence ≥ {threshold:.3g}:\n"
            f"coverage {coverage:.2f}, risk {risk:.3f}",
            color=style.color,
            linestyle="none",
            marker=style.marker,
            markersize=8,
            markerfacecolor="white",
            markeredgewidth=1.6,
            clip_on=False,
            zorder=3,
        )
