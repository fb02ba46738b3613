"""The options that say which texts are read, and how they are scored."""

from typing import Annotated

import typer

from classify.cli.choices import completion

__all__: list[str] = []

_DATA, _FORMAT, _SCORING = "Data", "File format", "Scoring"

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
        autocompletion=completion("encoding"),
        rich_help_panel=_FORMAT,
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
        help="For a text that is too long for the model: truncate or error.",
        show_default="truncate",
        autocompletion=completion("too_long"),
        rich_help_panel="Prompt",
    ),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="exact, or generate: one label is generated, the others get bounds.",
        show_default="exact",
        autocompletion=completion("strategy"),
        rich_help_panel=_SCORING,
    ),
]
ToleranceOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="Share of the label mass that may stay unresolved; 0 reads everything.",
        show_default="0.001",
        rich_help_panel=_SCORING,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No notes, progress or summary on stderr.",
        rich_help_panel="Other",
    ),
]
