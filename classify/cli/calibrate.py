"""`classify calibrate`: labelled texts to a calibration, a threshold and sets."""

from collections.abc import Mapping
from dataclasses import replace
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
from classify.cli.decision_options import check_share
from classify.cli.engine_options import (
    ApiKeyEnvOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    EngineOptionsOption,
    UrlOption,
)
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
    TemplateOption,
    TrustOption,
    split_labels,
    task_of,
)
from classify.errors import ConfigError

__all__ = ["CALIBRATE_HELP", "calibrate_command", "parse_prior"]

CALIBRATE_HELP = """Example:

$ classify calibrate labelled.csv --labels billing,shipping \\
    --label-column label --target-risk 0.05 -o calibration.json

Learn from labelled texts how far the probabilities of a model can be trusted:
a correction of them, and on request, on other rows, a threshold that keeps a
risk and sets of labels that keep a coverage. Give the same labels, prompt and
model as to classify predict --calibration, which refuses what does not fit.
Without --label-column nothing is known but the texts, which is enough for
--method prior_matching: it takes out the model's preference for some labels.
"""

_CALIBRATION = "Calibration"


def calibrate_command(
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
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with the true labels; rows where it is empty are left out.",
            rich_help_panel="Data",
        ),
    ] = None,
    text_column: TextColumnOption = None,
    input_format: InputFormatOption = None,
    encoding: EncodingOption = "utf-8",
    separator: SeparatorOption = None,
    quote_char: QuoteOption = '"',
    escape_char: EscapeOption = None,
    limit: LimitOption = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, temperature, affine, prior_matching, …: of LabelCalibrator.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(
            metavar="SHARES",
            help="Share of each label: uniform, labels (as in the file), or "
            "billing=0.7,shipping=0.3.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = "uniform",
    unlabeled: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="More texts, without labels, for the label-free part.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    target_risk: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Fit a threshold: of the labels given, at most a share R is wrong.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    min_label_mass: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            help="Beside --target-risk: abstain where the label mass is below M.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Fit sets of labels that hold the true one as often as LEVEL.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there, as JSON."),
    ] = Path("calibration.json"),
    template: TemplateOption = None,
    system: SystemOption = None,
    chat: ChatOption = None,
    options: OptionsOption = None,
    answer_prefix: AnswerPrefixOption = None,
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
    """Fit a calibration, and on other rows a threshold and sets."""
    changes = {
        "text_column": text_column,
        "template": template,
        "system": system,
        "chat": chat,
        "options": options,
        "answer_prefix": answer_prefix,
        "too_long": too_long,
        "strategy": strategy,
        "tolerance": tolerance,
        "model": model,
        "engine": engine,
        "url": url,
        "api_key_env": api_key_env,
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size,
        "engine_options": engine_options or None,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    with reported_errors(debug=debug), Notes(quiet=quiet) as notes:
        _check_decisions(label_column, target_risk, min_label_mass, sets)
        chosen = task_of(task, labels, labels_file, changes)
        from classify.cli.calibrate_job import calibrate_tables
        from classify.jobs import CalibrationWishes

        wishes = CalibrationWishes(
            method=method,
            prior=parse_prior(prior),
            target_risk=target_risk,
            min_label_mass=min_label_mass,
            sets=sets,
        )
        reading = Reading(
            sources=[source],
            encoding=encoding,
            input_format=input_format,
            separator=separator,
            quote_char=quote_char,
            escape_char=escape_char,
            limit=limit,
        )
        more = None
        if unlabeled is not None:
            more = replace(reading, sources=[unlabeled], limit=None).table()
        calibrate_tables(
            chosen,
            wishes,
            reading.table(),
            more,
            notes,
            label_column=label_column,
            output=output,
        )


def parse_prior(text: str) -> str | Mapping[str, float]:
    """Return what ``--prior`` says: a word, or a share for each label.

    Examples
    --------
    >>> parse_prior("uniform")
    'uniform'
    >>> parse_prior("billing=0.7, shipping=0.3")
    {'billing': 0.7, 'shipping': 0.3}
    """
    if "=" not in text:
        return text.strip()
    prior = {}
    for pair in split_labels(text, "--prior"):
        name, _, share = pair.rpartition("=")
        try:
            prior[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(
                f"--prior {text!r} must be uniform, labels, or LABEL=SHARE,LABEL=SHARE "
                f"with numbers. Got {share!r} for {name.strip()!r}."
            ) from None
    return prior


def _check_decisions(
    label_column: str | None,
    target_risk: float | None,
    min_label_mass: float | None,
    sets: float | None,
) -> None:
    check_share("--target-risk", target_risk)
    check_share("--sets", sets)
    if min_label_mass is not None:
        if target_risk is None:
            raise ConfigError("--min-label-mass is for --target-risk: give both.")
        if not 0.0 < min_label_mass <= 1.0:
            raise ConfigError(
                "--min-label-mass must be above 0 and at most 1. Got "
                f"{min_label_mass:g} instead."
            )
    if label_column is None and (target_risk is not None or sets is not None):
        raise ConfigError(
            "--target-risk and --sets need true labels: name their column with "
            "--label-column."
        )
