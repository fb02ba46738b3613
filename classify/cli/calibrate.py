"""`classify calibrate`: labelled texts to a calibration, a threshold and sets."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from classify.cli.choices import completion
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
    split_labels,
    task_of,
)
from classify.cli.overwriting import OverwriteOption
from classify.cli.uses import refuse_unused, task_facts
from classify.errors import ConfigError

__all__ = ["CALIBRATE_HELP", "calibrate_command", "parse_prior"]

CALIBRATE_HELP = """Example:

$ classify calibrate labelled.csv --task tickets.yaml --target-risk 0.1

Learn from labelled texts how far the probabilities of a model can be trusted:
a correction and, on request, a threshold that keeps a risk (--target-risk)
and sets of labels that keep a coverage (--sets), both fitted on other rows.
Give the same labels, prompt and model as to classify predict --calibration,
which refuses anything else. (classify demo --files writes both files.)

The true labels are in the column label, or that of --label-column. Without
them, the texts alone show which labels the model prefers whatever a text
says, and the calibration corrects that.
"""

_CALIBRATION = "Calibration"


def calibrate_command(
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
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with the true labels; rows where it is empty are left out.",
            show_default="label, if there is one",
            rich_help_panel="Data",
        ),
    ] = None,
    no_label_column: Annotated[
        bool,
        typer.Option(
            "--no-label-column",
            help="Leave the labels in the file out, and use its texts alone.",
            rich_help_panel="Data",
        ),
    ] = False,
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
            help="auto, or one of temperature, bias, affine, vector, matrix, isotonic "
            "(with labels), prior_matching, batch, content_free, domain, pmi (without) "
            "and none.",
            autocompletion=completion("method"),
            rich_help_panel=_CALIBRATION,
        ),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(
            metavar="SHARES",
            help="Share of each label among your texts: uniform, labels (as in the "
            "file), or billing=0.7,shipping=0.3.",
            autocompletion=completion("prior"),
            rich_help_panel=_CALIBRATION,
        ),
    ] = "uniform",
    unlabeled: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="More texts without labels, to learn what the model prefers.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    target_risk: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Fit a threshold, so that at most a share R of the answers is wrong.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    min_label_mass: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            help="Also abstain where the label mass is below M.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Fit sets of labels that hold the true one with probability LEVEL.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the calibration to a file, as JSON.",
            rich_help_panel="Data",
        ),
    ] = Path("calibration.json"),
    overwrite: OverwriteOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write the calibration even if it does harm; fit --method isotonic to "
            "few labels.",
            rich_help_panel=_CALIBRATION,
        ),
    ] = False,
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
    """Fit a calibration, and on other rows a threshold and sets."""
    with reported_errors(debug=debug), Notes(quiet=quiet) as notes:
        given = Given.of(context)
        _check_decisions(target_risk, min_label_mass, sets)
        chosen = task_of(given)
        refuse_unused(given, task_facts(chosen) | _facts(method, target_risk))
        if label_column is not None and no_label_column:
            raise ConfigError("Give --label-column or --no-label-column, not both.")
        wanted = parse_prior(prior)
        reading = Reading.of(given, [source])
        further = None
        if unlabeled is not None:
            further = replace(reading, sources=[unlabeled], limit=None)
        refuse_unused(given, _either(reading, further))
        from classify.cli.calibrate_job import LabelSource, calibrate_tables
        from classify.jobs import CalibrationWishes

        calibrate_tables(
            chosen,
            CalibrationWishes(
                method=method,
                prior=wanted,
                target_risk=target_risk,
                min_label_mass=min_label_mass,
                sets=sets,
                force=force,
            ),
            reading.table(),
            None if further is None else further.table(),
            notes,
            labels=LabelSource(label_column, left_out=no_label_column),
            output=output,
            overwrite=overwrite,
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
        return _prior_word(text.strip())
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


def _prior_word(word: str) -> str:
    words = ("uniform", "labels")
    if word in words:
        return word
    near = get_close_matches(word, words, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        "--prior must be uniform, labels, or a share for each label, such as "
        f"billing=0.7,shipping=0.3. Got {word!r} instead.{hint}"
    )


def _facts(method: str, target_risk: float | None) -> dict[str, bool]:
    """Return what the method says about which options have an effect."""
    without_prior = ("none", "temperature", "matrix", "isotonic")
    without_texts = ("none", "temperature", "content_free", "domain", "pmi")
    return {
        "the method has a prior": method not in without_prior,
        "the method reads more texts": method not in without_texts,
        "a risk is kept": target_risk is not None,
    }


def _either(*readings: Reading | None) -> dict[str, bool]:
    """Return what is so of the files of one of two readings."""
    facts = [each.facts() for each in readings if each is not None]
    return {name: any(each[name] for each in facts) for name in facts[0]}


def _check_decisions(
    target_risk: float | None, min_label_mass: float | None, sets: float | None
) -> None:
    check_share("--target-risk", target_risk)
    check_share("--sets", sets)
    if min_label_mass is not None and not 0.0 < min_label_mass <= 1.0:
        raise ConfigError(
            "--min-label-mass must be above 0 and at most 1. Got "
            f"{min_label_mass:g} instead."
        )
