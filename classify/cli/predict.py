"""`classify predict`: files, or one text, to labels with probabilities."""

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
    TemplateOption,
    TrustOption,
    task_of,
)
from classify.errors import ConfigError

__all__ = ["PREDICT_HELP", "predict_command"]

PREDICT_HELP = """Example:

$ classify predict tickets.csv --labels billing,shipping -o labelled.csv

Label the rows of CSV, TSV, JSONL or Parquet files. The output has the input's
columns, then label, probability, label_mass (the model's belief in any of the
labels), unresolved (label mass not read), truncated (the text was cut to fit)
and error (why a row has no label; OUT.errors.csv lists them). A job that was
interrupted goes on when the same command is run again: finished rows are kept
in OUT.job. One text: classify predict --text "…" --labels a,b

With --calibration, probabilities are corrected; --threshold and --target-risk
leave unsure rows without a label (abstained says why), --sets adds label_set.
"""

_DATA = "Data"


def predict_command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
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
    changes = {
        "labels_column": labels_column,
        "text_column": text_column,
        "template": template,
        "system": system,
        "chat": chat,
        "options": options,
        "answer_prefix": answer_prefix,
        "too_long": too_long,
        "strategy": strategy,
        "tolerance": tolerance,
        "calibration": calibration,
        "model": model,
        "engine": engine,
        "url": url,
        "api_key_env": api_key_env,
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size,
        "speculation": speculation,
        "engine_options": engine_options or None,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    with (
        reported_errors(debug=debug, interrupted=_interrupted(output)),
        Notes(quiet=quiet) as notes,
    ):
        if not sources:
            _check_single(text=text, as_json=as_json, output=output)
        elif as_table and output is not None:
            raise ConfigError(
                "--table shows the rows and --output writes them: drop one."
            )
        elif text is not None or as_json:
            raise ConfigError(
                "--text and --json are for one text: leave the file "
                f"{sources[0]!r} out, or drop them."
            )
        chosen = task_of(task, labels, labels_file, changes)
        rules = rules_of(
            chosen, threshold=threshold, target_risk=target_risk, sets=sets, force=force
        )
        if not sources:
            from classify.cli.single_text import predict_text

            predict_text(chosen, rules, text, notes, as_json=as_json)
            return
        from classify.cli.table_job import predict_table

        reading = Reading(
            sources=sources,
            encoding=encoding,
            input_format=input_format,
            separator=separator,
            quote_char=quote_char,
            escape_char=escape_char,
            limit=limit,
            sample=sample,
            shard=shard,
        )
        wanted = JobOptions(
            output=output,
            output_format=output_format,
            as_table=as_table,
            probabilities=probabilities,
            restart=restart,
            keep_job=keep_job,
            max_errors=max_errors,
            cache=cache,
            dry_run=dry_run,
            log_json=log_json,
            ray=ray,
            workers=workers,
        )
        predict_table(chosen, rules, reading, wanted, notes)


def _interrupted(output: Path | None) -> str:
    """Return what to say where a job was stopped at once."""
    if output is None or not Path(f"{output}.job").exists():
        return "Interrupted."
    return (
        f"Interrupted. What is finished is kept in '{output}.job': run the same "
        "command again to go on."
    )


def _check_single(*, text: str | None, as_json: bool, output: Path | None) -> None:
    if text is None and not as_json:
        raise ConfigError(
            "There is nothing to classify: name a file, or give --text, or --json "
            "to read one text from stdin."
        )
    if output is not None:
        raise ConfigError("--output is for files; one text is printed.")
