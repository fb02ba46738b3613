"""A picture of how likely chosen words are at every step of a generation."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classify.errors import DataError
from classify.plots.axes import CURVE, axes_for_curves, next_style, put_legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TrackDisplay"]

# With more generated tokens, their labels below the axes would be unreadable.
_MAX_TICKS = 40


class TrackDisplay:
    """The log-probability of each word at every step, a curve a word.

    Make one with `from_frame` or `Trajectory.plot`.

    Parameters
    ----------
    words : sequence of str, length n_words
    tokens : sequence of str, length n_steps
        What was generated.
    logprobs : array-like of float, shape (n_steps, n_words)

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, words: Any, tokens: Any, logprobs: Any) -> None:
        self.words = tuple(words)
        self.tokens = tuple(tokens)
        self.logprobs: npt.NDArray[np.float64] = np.asarray(logprobs, dtype=np.float64)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        row: int = 0,
        generation: int = 0,
        ax: "Axes | None" = None,
    ) -> "TrackDisplay":
        """Draw the words of one generation.

        Parameters
        ----------
        frame : DataFrame
            The table of `track`, or a file of ``classify track``.
        row : int, default=0
            Which text, as the table numbers it.
        generation : int, default=0
            Which of its generations.
        ax : matplotlib Axes, default=None
            Where to draw. None: new axes.

        Returns
        -------
        TrackDisplay

        Raises
        ------
        DataError
            The table has no such generation.
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from classify import track
        >>> tracked = track(["Where is my parcel?"], ["parcel", "card"], max_tokens=3)
        >>> TrackDisplay.from_frame(tracked.to_frame()).words
        ('parcel', 'card')
        """
        part = frame[(frame["row"] == row) & frame["step"].notna()]
        if "generation" in frame:
            part = part[part["generation"] == generation]
        elif generation:
            part = part.iloc[:0]
        if part.empty:
            raise DataError(
                f"The table has no generation {generation} of row {row}: it was set "
                "aside, or has another number."
            )
        words = part["word"].drop_duplicates().tolist()
        tokens = part.drop_duplicates("step")["token"].tolist()
        logprobs = part["logprob"].to_numpy(dtype=np.float64)
        return cls(words, tokens, logprobs.reshape(-1, len(words))).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> "TrackDisplay":
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
        steps = np.arange(len(self.tokens))
        for word, column in zip(self.words, self.logprobs.T, strict=True):
            style = next_style(self.ax_)
            self.ax_.plot(
                steps,
                column,
                # Dollar signs would be read as mathematics.
                label=word.replace("$", r"\$"),
                color=style.color,
                linestyle=style.line,
                marker=style.marker,
                markersize=4,
                linewidth=1.4,
                gid=CURVE,
            )
        if len(self.tokens) <= _MAX_TICKS:
            shown = [repr(token)[1:-1].replace("$", r"\$") for token in self.tokens]
            self.ax_.set_xticks(steps, shown, rotation=90, fontsize="small")
        self.ax_.set(xlabel="generated token", ylabel="log-probability (nats)")
        put_legend_above(self.ax_)
        return self
