"""Axes to draw curves on, and styles that can be distinguished without colour."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from classify.errors import missing_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CURVE", "CurveStyle", "axes_for_curves", "next_style", "put_legend_above"]


# The group id of lines that take a style of their own.
CURVE = "classify.curve"


class CurveStyle(NamedTuple):
    """How one of several curves looks."""

    color: str
    line: Literal["-", "--", "-.", ":"]
    marker: str


# Luminance 20, 45 and 70 % of white, then dark again.
_STYLES = (
    CurveStyle("#1f3552", "-", "o"),
    CurveStyle("#b4602c", "--", "s"),
    CurveStyle("#86c3b8", "-.", "^"),
    CurveStyle("#3b1d3f", ":", "D"),
)


def axes_for_curves(
    ax: "Axes | None", size: tuple[float, float] | None = None
) -> "Axes":
    """Return the axes given, or new ones; `size` in inches.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise missing_dependency(
            "Displays are drawn with matplotlib", "plots"
        ) from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def next_style(ax: "Axes") -> CurveStyle:
    """Return the style after those of the curves that are drawn already."""
    n_curves = sum(line.get_gid() == CURVE for line in ax.lines)
    n_styles = len(_STYLES)
    style = _STYLES[n_curves % n_styles]
    # From the fifth curve on, the colours come again with other lines.
    other = _STYLES[(n_curves + n_curves // n_styles) % n_styles]
    return style._replace(line=other.line)


def put_legend_above(ax: "Axes") -> None:
    """List the curves above the axes, where they cover nothing."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        fontsize="small",
        frameon=False,
    )
