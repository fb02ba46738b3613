"""`classify evaluate`: how good labels and probabilities are, on labelled texts."""

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
from classify.cli.decision_options import (
    CalibrationOption,
    ForceOption,
    SetsOption,
    TargetRiskOption,
    ThresholdOption,
    rules_of,
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

__all__ = ["EVALUATE_HELP", "evaluate_command"]

EVALUATE_HELP = """Example:

$ classify evaluate fresh.csv --task tickets.yaml \\
    --calibration calibration.json

Compare the labels and probabilities of a model with true labels: log loss,
Brier score, accuracy, macro-F1 and calibration error with their intervals,
before and after calibration. --report writes a folder with report.html,
report.json and predictions.csv. Use other rows than you calibrated on.
(classify demo --files and the example of classify calibrate write the files.)
"""


def evaluate_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="LABELLED",
            help="A file, or a pattern such as 'part-*.csv'; '-' is stdin.",
            show_default=False,
        ),
    ],
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    task: TaskOption = None,
    label_column: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Column with the true labels; rows where it is empty are left out.",
            rich_help_panel="Data",
        ),
    ] = "label",
    text_column: TextColumnOption = None,
    input_format: InputFormatOption = None,
    encoding: EncodingOption = "utf-8",
    separator: SeparatorOption = None,
    quote_char: QuoteOption = '"',
    escape_char: EscapeOption = None,
    limit: LimitOption = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write report.html, report.json and predictions.csv there.",
            rich_help_panel="Data",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    calibration: CalibrationOption = None,
    force: ForceOption = False,
    threshold: ThresholdOption = None,
    target_risk: TargetRiskOption = None,
    sets: SetsOption = None,
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
    """Measure labels and probabilities on labelled texts."""
    with reported_errors(debug=debug), Notes(quiet=quiet) as notes:
        given = Given.of(context)
        chosen = task_of(given)
        used = {"a calibration is used": chosen.calibration is not None}
        refuse_unused(given, task_facts(chosen) | used)
        rules = rules_of(
            chosen, threshold=threshold, target_risk=target_risk, sets=sets, force=force
        )
        reading = Reading.of(given, [source])
        written = {"a report is written": report is not None}
        refuse_unused(given, reading.facts() | written)
        from classify.cli.evaluate_job import evaluate_table

        evaluate_table(
            chosen,
            rules,
            reading.table(),
            notes,
            label_column=label_column,
            report=report,
            overwrite=overwrite,
        )
