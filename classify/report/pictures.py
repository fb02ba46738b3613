"""The pictures of a report, as SVG that stands within HTML."""

import re
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from classify.errors import missing_dependency
from classify.markup import escaped
from classify.metrics import ReliabilityDisplay, RiskCoverageDisplay
from classify.report.figures import Figures
from classify.report.measures import N_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["N_MASS_BINS", "Pictures", "check_matplotlib", "draw_pictures"]

N_MASS_BINS = 20

# A picture as wide as a small phone, whose units are the pixels of the page: letters
# of 15 units are as large as those of the tables next to it.
_WIDTH, _HEIGHT = 340, 380
_STYLE: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 15,
    "legend.handlelength": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "classify",
}


class Pictures(NamedTuple):
    """Drawings as HTML; each is one ``svg`` element.

    Attributes
    ----------
    reliability, risk_coverage, label_mass : Markup
    """

    reliability: Markup
    risk_coverage: Markup
    label_mass: Markup


def check_matplotlib() -> None:
    """Raise MissingDependencyError if the pictures of a report cannot be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise missing_dependency(
            "The pictures of a report are drawn with matplotlib", "plots"
        ) from error


def draw_pictures(evaluation: Figures) -> Pictures:
    """Draw reliability, risk against coverage, and the distribution of label mass.

    Parameters
    ----------
    evaluation : Figures

    Returns
    -------
    Pictures
        The same for the same evaluation, whatever matplotlib's settings.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib import style

    with style.context(["default", _STYLE]):
        return Pictures(
            _drawn(_draw_reliability, evaluation, "Reliability diagram"),
            _drawn(_draw_risk_coverage, evaluation, "Risk-coverage curve"),
            _drawn(_draw_label_mass, evaluation, "Histogram of the label mass"),
        )


def _draw_reliability(ax: "Axes", evaluation: Figures) -> None:
    names = []
    for name, assessed in evaluation.assessments.items():
        display = ReliabilityDisplay.from_predictions(
            evaluation.codes, assessed.proba, n_bins=N_BINS, name=name, ax=ax
        )
        names.append(_named(name, f"ECE {display.error:.3f}", evaluation))
    _name_curves(ax, names)


def _draw_risk_coverage(ax: "Axes", evaluation: Figures) -> None:
    selection = evaluation.selection
    names = []
    for name, assessed in evaluation.assessments.items():
        is_final = assessed is evaluation.final
        threshold = None
        if selection is not None and is_final and np.isfinite(selection.threshold):
            threshold = selection.threshold
        display = RiskCoverageDisplay.from_predictions(
            evaluation.codes,
            assessed.proba,
            confidence=assessed.order,
            threshold=threshold,
            ax=ax,
        )
        names.append(_named(name, f"AURC {display.aurc:.3f}", evaluation))
        if threshold is not None:
            names.append(f"threshold {threshold:.3g}")
    _name_curves(ax, names)


def _draw_label_mass(ax: "Axes", evaluation: Figures) -> None:
    ax.hist(
        evaluation.scores.label_mass.clip(0.0, 1.0),
        bins=N_MASS_BINS,
        range=(0.0, 1.0),
        color="#1f3552",
        edgecolor="white",
        linewidth=0.6,
    )
    ax.set(xlim=(0, 1), xlabel="label mass", ylabel="texts")
    ax.locator_params(axis="y", integer=True)


def _named(name: str, figure: str, evaluation: Figures) -> str:
    return figure if evaluation.after is None else f"{name}: {figure}"


def _name_curves(ax: "Axes", names: list[str]) -> None:
    """Replace what a display's legend says; the captions have the rest."""
    legend = ax.get_legend()
    assert legend is not None
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, fontsize="medium")


def _drawn(draw: Any, evaluation: Figures, label: str) -> Markup:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), layout="constrained")
    draw(figure.add_subplot(), evaluation)
    return _inline_svg(figure, label)


def _inline_svg(figure: "Figure", label: str) -> Markup:
    file = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    inner = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # Its rules would hold for the whole page.
    inner = re.sub(r"<style.*?</style>", "", inner, flags=re.DOTALL)
    # Ids are unique in a page: only those that are referred to, by the picture's name.
    prefix = label.lower().replace(" ", "-")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', inner))
    inner = re.sub(
        r' id="([^"]*)"',
        lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "",
        inner,
    )
    inner = re.sub(r'(url\(|href=")#', rf"\g<1>#{prefix}-", inner)
    # matplotlib escapes what is written in a picture.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" aria-label="{escaped(label)}">{inner.strip()}'
    )
