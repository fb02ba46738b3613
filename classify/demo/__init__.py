"""The demo model and demo data that ship with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "TICKET_LABELS",
    "fresh_csv",
    "labelled_csv",
    "located",
    "model_folder",
    "tickets_csv",
    "tickets_yaml",
]

TICKET_LABELS = ("billing", "shipping", "technical problem", "account access", "refund")
"""The labels of the demo data."""

_HERE = Path(__file__).parent


def model_folder() -> Path:
    """Return the folder of the demo model.

    Returns
    -------
    Path
        A folder that ``transformers`` and vLLM load; see ``MODEL_CARD.md`` beside it.
    """
    return _HERE / "model"


def tickets_csv() -> Path:
    """Return the demo data: support tickets with the columns ``id`` and ``text``.

    Returns
    -------
    Path
        A CSV file in UTF-8.
    """
    return _HERE / "tickets.csv"


def tickets_yaml() -> Path:
    """Return a task file for `tickets_csv`, with a comment on every key.

    Returns
    -------
    Path
        A YAML file, as ``classify predict --task`` reads it.
    """
    return _HERE / "tickets.yaml"


def labelled_csv() -> Path:
    """Return 400 tickets with the columns ``text`` and ``label``, to calibrate on.

    Returns
    -------
    Path
        A CSV file in UTF-8.
    """
    return _HERE / "labelled.csv"


def fresh_csv() -> Path:
    """Return 400 further tickets like those of `labelled_csv`, to evaluate on.

    Returns
    -------
    Path
        A CSV file in UTF-8.
    """
    return _HERE / "fresh.csv"


def located(model: str | Path) -> str:
    """Return where to load a model from: "demo" stands for the demo's folder.

    Examples
    --------
    >>> located("org/name")
    'org/name'
    """
    return str(model_folder() if model == "demo" else model)
