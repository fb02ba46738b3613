"""How likely chosen tokens were at every step of a generation, as an HTML table."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from classify.markup import probability, table, token_html, with_bar

__all__ = ["highest", "step_table"]

# A notebook shows no more than can be looked through: columns, and rows at each end.
_MAX_COLUMNS = 4
_N_ENDS = 10


def highest(logprobs: npt.NDArray[np.float64], n_columns: int) -> list[int]:
    """Return the columns with the highest values, in the order they have.

    Parameters
    ----------
    logprobs : ndarray of float64, shape (n_steps, n_tracked)
    n_columns : int
        How many at most.

    Examples
    --------
    >>> highest(np.log([[0.1, 0.2, 0.3], [0.6, 0.1, 0.1]]), 2)
    [0, 2]
    """
    order = np.argsort(-logprobs.max(axis=0, initial=-np.inf), kind="stable")
    return sorted(order[:n_columns].tolist())


def step_table(
    tokens: Sequence[str], names: Sequence[str], logprobs: npt.NDArray[np.float64]
) -> Markup:
    """Return a row for each step; of many steps, the first and the last ones.

    Parameters
    ----------
    tokens : sequence of str, length n_steps
        What was generated.
    names : sequence of str, length n_tracked
    logprobs : ndarray of float64, shape (n_steps, n_tracked)

    Returns
    -------
    Markup
        With the tracked columns that come highest.
    """
    columns = highest(logprobs, _MAX_COLUMNS)
    proba, n_steps = np.exp(logprobs[:, columns]), len(tokens)
    n_hidden = max(0, n_steps - 2 * _N_ENDS)
    rows: list[list[str]] = []
    for step, token in enumerate(tokens):
        if n_hidden and step == _N_ENDS:
            rows.append(["…", f"{n_hidden} more steps", *([""] * len(columns))])
        if n_hidden and _N_ENDS <= step < n_steps - _N_ENDS:
            continue
        values = [with_bar(probability(value), value) for value in proba[step].tolist()]
        rows.append([str(step), token_html(token), *values])
    header = ["step", "generated", *(names[at] for at in columns)]
    shown = table("rl" + "r" * len(columns), header, rows)
    if n_left := len(names) - len(columns):
        left_out = Markup("\n<p>Not shown: {} that never come as high.</p>")
        shown += left_out.format("one" if n_left == 1 else n_left)
    return shown
