"""`classify predict`: files, or one text, to labels with probabilities."""

import sys
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
    SpeculationOption,
    UrlOption,
)
from classify.cli.given import Given
from classify.cli.job_options import (
    CacheOption,
    DryRunOption,
    EscapeOption,
    InputFormatOption,
    JobOptions,
    KeepJobOption,
    LogJsonOption,
    MaxErrorsOption,
    OutputFormatOption,
    OutputOption,
    QuoteOption,
    RayOption,
    Reading,
    RestartOption,
    SampleOption,
    SeparatorOption,
    ShardOption,
    WorkersOption,
    is_stream,
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
from classify.errors import ConfigError

__all__ = ["PREDICT_HELP", "predict_command"]

PREDICT_HELP = """Example:

$ classify predict tickets.csv --labels billing,shipping -o out.csv

Label the rows of CSV, TSV, JSONL or Parquet files, or one text: --text "…".
(classify demo --files writes tickets.csv and the files of other examples.)

The output has the columns of the input, then label, probability, label_mass
(the probability that the model answers with any of the labels), unresolved
(label mass that was not read), truncated (the text was cut to fit) and error
(why a row has no label; OUT.errors.csv lists these rows). When a job was
interrupted, run the same command again: finished rows are kept in OUT.job.

--calibration corrects the probabilities. --threshold and --target-risk leave
uncertain rows without a label (column abstained); --sets adds label_set.
"""

_DATA = "Data"


def predict_command(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files, or patterns such as 'part-*.csv'; '-' is stdin.",
            show_default=False,
        ),
    ] = None,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    task: TaskOption = None,
    labels_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with each row's candidate labels, as a|b|c.",
            rich_help_panel="Labels",
        ),
    ] = None,
    text_column: TextColumnOption = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    as_table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="Show a table, also where stdout is no terminal.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add a column p(LABEL) for each label.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    input_format: InputFormatOption = None,
    output_format: OutputFormatOption = None,
    encoding: EncodingOption = "utf-8",
    separator: SeparatorOption = None,
    quote_char: QuoteOption = '"',
    escape_char: EscapeOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    shard: ShardOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Classify this text instead of a file.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print JSON for one text: that of --text, or stdin.",
            rich_help_panel=_DATA,
        ),
    ] = False,
    restart: RestartOption = False,
    keep_job: KeepJobOption = False,
    max_errors: MaxErrorsOption = None,
    cache: CacheOption = None,
    dry_run: DryRunOption = False,
    log_json: LogJsonOption = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    template: TemplateOption = None,
    system: SystemOption = None,
    chat: ChatOption = None,
    options: OptionsOption = None,
    answer_prefix: AnswerPrefixOption = None,
    template_arguments: TemplateArgumentsOption = None,
    too_long: TooLongOption = None,
    strategy: StrategyOption = None,
    tolerance: ToleranceOption = None,
    calibration: CalibrationOption = None,
    force: ForceOption = False,
    threshold: ThresholdOption = None,
    target_risk: TargetRiskOption = None,
    sets: SetsOption = None,
    model: ModelOption = None,
    engine: EngineOption = None,
    url: UrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = None,
    batch_size: BatchSizeOption = None,
    speculation: SpeculationOption = None,
    engine_options: EngineOptionsOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Label the rows of files, or one text."""
    with (
        reported_errors(debug=debug, interrupted=_interrupted(output)),
        Notes(quiet=quiet) as notes,
    ):
        given = Given.of(context)
        _check_mode(given, sources)
        chosen = task_of(given)
        used = {"a calibration is used": chosen.calibration is not None}
        refuse_unused(given, task_facts(chosen) | used)
        rules = rules_of(
            chosen, threshold=threshold, target_risk=target_risk, sets=sets, force=force
        )
        if not sources:
            from classify.cli.single_text import predict_text

            predict_text(chosen, rules, text, notes, as_json=as_json)
            return
        reading = Reading.of(given, sources)
        refuse_unused(given, reading.facts())
        from classify.cli.table_job import predict_table

        predict_table(chosen, rules, reading, JobOptions.of(given), notes)


def _interrupted(output: Path | None) -> str:
    """Return what to say where a job was stopped at once."""
    if output is None or not Path(f"{output}.job").exists():
        return "Interrupted."
    return (
        f"Interrupted. What is finished is kept in '{output}.job': run the same "
        "command again to go on."
    )


def _check_mode(given: Given, sources: list[str] | None) -> None:
    """Refuse what has no effect on one text, on a table that is shown, or on a file."""
    if not sources:
        refuse_unused(given, {"files are read": False})
        if given.values["text"] is None and not given.values["as_json"]:
            raise ConfigError(
                "There is nothing to classify: name a file, or give --text, or --json "
                "to read one text from stdin."
            )
        return
    output, is_dry = given.values["output"], given.values["dry_run"]
    if given.values["as_table"] and output is not None:
        raise ConfigError("--table shows the rows and --output writes them: drop one.")
    refuse_unused(
        given,
        {
            "one text is read": False,
            "the job is run": not is_dry,
            "a cluster scores": given.values["ray"] is not None,
            # Other options of the command are left as they are for a --dry-run.
            "rows are written": is_dry
            or output is not None
            or not (given.values["as_table"] or sys.stdout.isatty()),
            "a file is written": is_dry
            or (output is not None and not is_stream(output)),
        },
    )
