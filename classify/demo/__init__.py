"""The demo model and demo data that ship with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["located", "model_folder", "tickets_csv"]

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


def located(model: str | Path) -> str:
    """Return where to load a model from: "demo" stands for the demo's folder.

    Examples
    --------
    >>> located("org/name")
    'org/name'
    """
    return str(model_folder() if model == "demo" else model)
