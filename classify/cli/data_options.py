"""The options that say which texts are read, and how they are scored."""

from typing import Annotated

import typer

__all__: list[str] = []

_DATA, _SCORING = "Data", "Scoring"

TextColumnOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the texts.",
        show_default="text",
        rich_help_panel=_DATA,
    ),
]
EncodingOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Encoding of the input; the output is UTF-8.",
        rich_help_panel=_DATA,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Only the first N rows.", rich_help_panel=_DATA
    ),
]
TooLongOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="With a text too long for the model: truncate or error.",
        rich_help_panel="Prompt",
    ),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="exact, or generate: one generated label, the others as bounds.",
        rich_help_panel=_SCORING,
    ),
]
ToleranceOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="Label mass that may stay unresolved; 0: none.",
        show_default="0.001",
        rich_help_panel=_SCORING,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No notes, progress or summary on stderr."),
]
