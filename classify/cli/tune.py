"""`classify tune`: which prompt suits the model, measured on some dozens of texts."""

from pathlib import Path
from typing import Annotated

import typer

from classify.cli.console import Notes, reported_errors
from classify.cli.data_options import (
    EncodingOption,
    LimitOption,
    QuietOption,
    StrategyOption,
    TextColumnOption,
    ToleranceOption,
    TooLongOption,
)
from classify.cli.engine_options import (
    ApiKeyEnvOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    UrlOption,
)
from classify.cli.given import Given
from classify.cli.job_options import (
    EscapeOption,
    InputFormatOption,
    QuoteOption,
    Reading,
    SeparatorOption,
)
from classify.cli.options import (
    AnswerPrefixOption,
    ChatOption,
    DebugOption,
    LabelsFileOption,
    LabelsOption,
    ModelOption,
    OptionsOption,
    RevisionOption,
    SystemOption,
    TaskOption,
    TemplateArgumentsOption,
    TemplateOption,
    TrustOption,
    task_of,
)
from classify.cli.overwriting import OverwriteOption
from classify.cli.uses import refuse_unused, task_facts

__all__ = ["TUNE_HELP", "tune_command"]

TUNE_HELP = """Example:

$ classify tune tickets.csv --task tickets.yaml -o tuned.yaml

Compare prompts on some dozens of texts, and find the one that suits the
model: without labels, the one whose predictions say most about the text; with
--label-column, the one of the least cross-validated log loss. --output writes
it to a task file. (classify demo --files writes the files of the example.)
"""


def tune_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="TEXTS",
            help="A file, or a pattern such as 'part-*.csv'; '-' is stdin.",
            show_default=False,
        ),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    task: TaskOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a task file with the best prompt there.",
            rich_help_panel="Data",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    label_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with the true labels, if there are any.",
            rich_help_panel="Data",
        ),
    ] = None,
    n_texts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=2,
            help="Texts to score with each prompt; drawn at random if there are more.",
            rich_help_panel="Data",
        ),
    ] = 64,
    text_column: TextColumnOption = None,
    input_format: InputFormatOption = None,
    encoding: EncodingOption = "utf-8",
    separator: SeparatorOption = None,
    quote_char: QuoteOption = '"',
    escape_char: EscapeOption = None,
    limit: LimitOption = None,
    template: TemplateOption = None,
    system: SystemOption = None,
    chat: ChatOption = None,
    options: OptionsOption = None,
    answer_prefix: AnswerPrefixOption = None,
    template_arguments: TemplateArgumentsOption = None,
    too_long: TooLongOption = None,
    strategy: StrategyOption = None,
    tolerance: ToleranceOption = None,
    model: ModelOption = None,
    engine: EngineOption = None,
    url: UrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    batch_size: BatchSizeOption = None,
    engine_options: EngineOptionsOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare prompts, and find the one that suits the model."""
    with reported_errors(debug=debug), Notes(quiet=quiet) as notes:
        given = Given.of(context)
        chosen = task_of(given)
        refuse_unused(given, task_facts(chosen))
        reading = Reading.of(given, [source])
        written = {"a task file is written": output is not None}
        refuse_unused(given, reading.facts() | written)
        from classify.cli.tune_job import tune_table

        tune_table(
            chosen,
            reading.table(),
            notes,
            output=output,
            overwrite=overwrite,
            label_column=label_column,
            n_texts=n_texts,
        )
