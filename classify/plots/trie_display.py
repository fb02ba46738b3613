"""A picture of the tokens of label words as a tree, with the mass that reaches each."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from classify.plots.axes import axes_for_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TrieDisplay"]

_SHOWN_FOLDED = "0.45"
_INK, _LINE, _BAR = "#1f3552", "0.65", "#86c3b8"
# Of the width of the axes: where the bars begin, and how far a level is indented.
_BARS, _MAX_INDENT = 0.62, 0.05
_POINTS_PER_CHARACTER = 5.6  # of a font of 9 points
_MAX_WIDTH = 6.0  # of a line, in points


class Line(Protocol):
    """What is drawn of a line; see `classify.scoring.paths.PathLine`."""

    @property
    def depth(self) -> int:
        """How many lines stand between it and the prompt."""

    @property
    def mass(self) -> float:
        """The probability that reaches it."""

    @property
    def n_paths(self) -> int:
        """How many paths it stands for; 0 where others hang on it."""

    @property
    def is_folded(self) -> bool:
        """Whether these are not shown one by one."""


class TrieDisplay:
    """The tokens of label words as a tree, and bars of the mass where paths end.

    Made by `Explanation.plot`. Lines are as thick as the mass that flows through them.

    Parameters
    ----------
    lines : sequence of PathLine, length n_lines
        From top to bottom.
    texts : sequence of str, length n_lines
        What each says.
    label_mass : float
    title : str, default=""

    Attributes
    ----------
    alternative_text : str
        What the picture shows, for those who do not see it.
    ax_, bars_ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(
        self,
        lines: Sequence[Line],
        texts: Iterable[str],
        label_mass: float,
        *,
        title: str = "",
    ) -> None:
        self.lines = tuple(lines)
        self.texts = tuple(texts)
        self.label_mass = label_mass
        self.title = title

    @property
    def alternative_text(self) -> str:
        """What the picture shows."""
        ends = [
            f"{text} {line.mass:.4f}"
            for line, text in zip(self.lines, self.texts, strict=True)
            if line.n_paths
        ]
        return (
            f"Tree of label tokens, label mass {self.label_mass:.4f}. Its paths and "
            f"their mass: {'; '.join(ends)}."
        )

    def plot(self, *, ax: "Axes | None" = None) -> "TrieDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: new axes.

        Returns
        -------
        self
        """
        self.ax_ = axes_for_curves(ax, (8.0, 1.0 + 0.27 * len(self.lines)))
        self.figure_ = self.ax_.figure
        self.ax_.set(xlim=(0, 1), ylim=(len(self.lines) - 0.4, -1.6))
        self.ax_.axis("off")
        self.ax_.set_title(
            f"{self.title or 'Label tokens'}: label mass {self.label_mass:.4f}",
            fontsize="medium",
            loc="left",
        )
        self._draw_tree()
        self._draw_bars()
        return self

    def _draw_tree(self) -> None:
        deepest = max((line.depth for line in self.lines), default=0)
        step = min(_MAX_INDENT, 0.7 * _BARS / (deepest + 1))
        points = self.ax_.get_window_extent().width * 72 / self.figure_.dpi
        self.ax_.text(0.0, -1, "prompt", va="center", fontsize=9, color=_INK)
        above: dict[int, int] = {-1: -1}
        for at, (line, text) in enumerate(zip(self.lines, self.texts, strict=True)):
            above[line.depth] = at
            x, start = step * (line.depth + 1), above[line.depth - 1]
            left = x - 0.6 * step
            self.ax_.plot(
                [left, left, x - 0.1 * step],
                [start + 0.35, at, at],
                color=_LINE,
                linewidth=0.7 + _MAX_WIDTH * self._share(line),
                solid_joinstyle="miter",
                zorder=0,
            )
            room = int((_BARS - x) * points / _POINTS_PER_CHARACTER)
            shown = text if len(text) <= room else f"{text[: max(room - 1, 1)]}…"
            self.ax_.text(
                x,
                at,
                shown.replace("$", r"\$"),
                va="center",
                fontsize=9,
                color=_SHOWN_FOLDED if line.is_folded else _INK,
                style="italic" if line.is_folded else "normal",
            )

    def _draw_bars(self) -> None:
        """Draw the mass of the lines at which paths end, with its figure."""
        self.bars_ax_ = self.ax_.inset_axes((_BARS, 0.0, 1.0 - _BARS, 1.0))
        ends = [at for at, line in enumerate(self.lines) if line.n_paths]
        masses = [self.lines[at].mass for at in ends]
        longest = max(masses, default=0.0) or 1.0
        self.bars_ax_.barh(ends, masses, height=0.62, color=_BAR, edgecolor=_INK)
        for at, mass in zip(ends, masses, strict=True):
            self.bars_ax_.text(
                mass + 0.02 * longest, at, f"{mass:.4f}", va="center", fontsize=8
            )
        self.bars_ax_.set(xlim=(0, 1.3 * longest), ylim=self.ax_.get_ylim())
        self.bars_ax_.axis("off")

    def _share(self, line: Line) -> float:
        return min(1.0, line.mass / self.label_mass) if self.label_mass else 0.0
