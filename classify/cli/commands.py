"""The commands: their option groups, and what they run.

What is heavy (pandas, torch, …) is imported inside commands, so that help is quick.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from classify.cli.command import as_command
from classify.cli.console import Notes
from classify.cli.decisions import DecisionOptions
from classify.cli.fitting import EvaluateOptions, FitOptions, TuneOptions
from classify.cli.given import Given
from classify.cli.groups import SOURCE, JobOptions, OneText, Reading, is_stream
from classify.cli.task import only_one_answer, question_of, task_of, task_options
from classify.cli.uses import refuse_unused, task_facts
from classify.errors import ConfigError

__all__ = [
    "calibrate",
    "demo",
    "doctor",
    "evaluate",
    "labels",
    "predict",
    "tune",
]

_LABELS = task_options(
    *("labels", "labels_file", "task", "kind", "tree_scoring", "escape"),
    *("yes_words", "no_words"),
)
_LABELS_COLUMN = task_options("labels_column")
_QUESTION = task_options("question")
_TEXT_COLUMN = task_options("text_column")
_DECISIONS = task_options("calibration", "threshold", "target_risk", "sets", "target")
_ASKING = task_options(panels=("Model", "Prompt", "Scoring"))
# Of those, what only the tokenizer is needed for.
_TOKENS = [
    *(each for each in task_options(panels=("Prompt",)) if each.name != "too_long"),
    *task_options("strategy", "max_reasoning_tokens"),
    *task_options("model", "revision", "trust_remote_code"),
]

_FIT_WORDING = {
    "target_risk": "Fit a threshold, so that at most a share R of the answers is "
    "wrong.",
    "sets": "Fit prediction sets that contain the true label with probability LEVEL.",
    "target": "With --kind multi, fit a threshold for each label: f1, precision=P, "
    "recall=P or risk=R.",
}
_FITS = [
    each._replace(
        setting=each.setting._replace(help=_FIT_WORDING[each.name]), panel="Calibration"
    )
    for each in task_options(*_FIT_WORDING)
]

Labelled = Annotated[
    str, typer.Argument(metavar="LABELLED", help=SOURCE, show_default=False)
]


@as_command("""Example:

$ classify demo

Classify 24 bundled support tickets with the demo model, and show the command
that does so with a file. --files writes into the current folder: tickets.csv,
a task file for it (tickets.yaml), and labelled.csv and fresh.csv, which have
labels, for classify calibrate and evaluate.
""")
def demo(
    notes: Notes,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Write tickets.csv, tickets.yaml, labelled.csv and fresh.csv into the "
            "current folder.",
        ),
    ] = False,
) -> None:
    """Classify bundled tickets, or write files to try things on."""
    from classify.cli.demo import classify_tickets, write_files

    (write_files if files else classify_tickets)(notes)


def _interrupted(values: Mapping[str, Any]) -> str:
    """Return the message for a job that was stopped immediately."""
    folder = f"{values['output']}.job"
    if values["output"] is None or not Path(folder).exists():
        return "Interrupted."
    return (
        f"Interrupted. Finished rows are kept in '{folder}': run the same command "
        "again to resume."
    )


@as_command(
    """Example:

$ classify predict tickets.csv --labels billing,shipping -o out.csv

Label the rows of CSV, TSV, JSONL or Parquet files, or one text: --text "…".
(classify demo --files writes tickets.csv and the files of other examples.)

The output has the columns of the input, then label, probability, label_mass
(the probability that the model answers with any of the labels), unresolved
(label mass that was not read), truncated (the text was cut to fit) and error
(why a row has no label; OUT.errors.csv lists these rows); --strategy reason
adds cut (a thought was too long) and, with --reasoning, the thoughts. When a
job was interrupted, run the same command again: finished rows are kept in
OUT.job. With several questions in a task file, each has columns of its own:
topic, topic.probability, …

--calibration corrects the probabilities. --threshold and --target-risk leave
uncertain rows without a label (column abstained); --sets adds label_set.
""",
    *_LABELS,
    *task_options("min_node_probability"),
    *_LABELS_COLUMN,
    *_TEXT_COLUMN,
    *_DECISIONS,
    *_ASKING,
    interrupted=_interrupted,
)
def predict(
    given: Given,
    notes: Notes,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files, or patterns such as 'part-*.csv'; '-' is stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    job: JobOptions,
    reading: Reading,
    one: OneText,
    decisions: DecisionOptions,
) -> None:
    """Label the rows of a CSV file, or one text."""
    if sources:
        _check_job(given, job)
    else:
        _check_text(given, one)
    task = task_of(given)
    parts = task.by_question().values()
    used = {"a calibration is used": any(each.calibration for each in parts)}
    refuse_unused(given, task_facts(task) | used)
    rules = decisions.rules_of(task)
    if not sources:
        from classify.cli.single_text import predict_text

        predict_text(task, rules, one, notes)
        return
    refuse_unused(given, reading.facts(sources))
    from classify.cli.table_job import predict_table

    predict_table(task, rules, sources, reading, job, notes)


def _check_text(given: Given, one: OneText) -> None:
    """Refuse what has no effect on one text."""
    refuse_unused(given, {"files are read": False})
    if one.text is None and not one.as_json:
        raise ConfigError(
            "There is nothing to classify: name a file, or give --text, or --json "
            "to read one text from stdin."
        )


def _check_job(given: Given, job: JobOptions) -> None:
    """Refuse what has no effect on a table that is shown, or on a file."""
    if job.as_table and job.output is not None:
        raise ConfigError("--table shows the rows and --output writes them: drop one.")
    has_file = job.output is not None and not is_stream(job.output)
    # Other options of the command are left as they are for a --dry-run.
    is_written = job.output is not None or not (job.as_table or sys.stdout.isatty())
    refuse_unused(
        given,
        {
            "one text is read": False,
            "the job is run": not job.dry_run,
            "a cluster scores": job.ray is not None,
            "a review is written": job.review is not None,
            "rows are written": job.dry_run or is_written,
            "a file is written": job.dry_run or has_file,
            "a file may be replaced": job.dry_run or has_file or job.review is not None,
        },
    )


@as_command(
    """Example:

$ classify labels --labels "New,New York,Boston"

Show the tokens of each label word after the prompt, which words begin alike,
and how much there is to read. Only the tokenizer is loaded. Labels that the
model could not tell apart are an error.
""",
    *_LABELS,
    *_TOKENS,
)
def labels(
    given: Given,
    notes: Notes,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how label words become tokens."""
    task = task_of(given)
    refuse_unused(given, task_facts(task))
    from classify.cli.audit_labels import print_labels

    print_labels(task, notes, as_json=as_json)


@as_command(
    """Example:

$ classify tune tickets.csv --task tickets.yaml -o tuned.yaml

Compare prompts on a few dozen texts, and find the one that suits the
model: without labels, the one whose predictions tell most about the text;
with --label-column, the one with the lowest cross-validated log loss.
--output writes it to a task file. (classify demo --files writes the example's
files.)
""",
    *_LABELS,
    *_QUESTION,
    *_TEXT_COLUMN,
    *_ASKING,
)
def tune(
    given: Given,
    notes: Notes,
    source: Annotated[
        str, typer.Argument(metavar="TEXTS", help=SOURCE, show_default=False)
    ],
    *,
    options: TuneOptions,
    reading: Reading,
) -> None:
    """Find the prompt that suits the model, on a few dozen texts."""
    task = question_of(given)
    refuse_unused(given, task_facts(task))
    written = {"an output is written": options.output is not None}
    refuse_unused(given, reading.facts([source]) | written)
    only_one_answer(task, "classify tune")
    from classify.cli.tune_job import tune_table

    tune_table(task, reading.table([source]), options, notes)


@as_command(
    """Example:

$ classify calibrate labelled.csv --task tickets.yaml --target-risk 0.1

Learn from labelled texts how far the probabilities of a model can be trusted:
a calibration and, on request, a threshold that limits the error rate
(--target-risk) and prediction sets with a guaranteed coverage (--sets), both
fitted on held-out rows. Use the same labels, prompt and model as with
classify predict --calibration, which refuses others. (classify demo --files
writes both files.)

The true labels are in the column label, or that of --label-column. Without
them, the calibration only corrects the model's preference for some labels
regardless of the text. With --labels-column, where each row has its own
candidates, the temperature depends on their number.
""",
    *_LABELS,
    *_QUESTION,
    *_LABELS_COLUMN,
    *_TEXT_COLUMN,
    *_FITS,
    *_ASKING,
)
def calibrate(
    given: Given,
    notes: Notes,
    source: Labelled,
    *,
    options: FitOptions,
    reading: Reading,
) -> None:
    """Learn from labelled texts how far probabilities can be trusted."""
    task = question_of(given)
    options = options.for_task(task)
    facts = task_facts(task) | options.facts(task)
    refuse_unused(given, facts, method=options.method)
    wishes = options.wishes(task)
    further = [] if options.unlabeled is None else [options.unlabeled]
    refuse_unused(given, reading.facts([source, *further]))
    from classify.cli.calibrate_job import calibrate_labels, calibrate_tables

    if task.is_multi:
        calibrate_labels(task, wishes, reading.table([source]), options, notes)
        return
    unlabelled = reading.whole().table(further) if further else None
    calibrate_tables(task, wishes, reading.table([source]), unlabelled, options, notes)


@as_command(
    """Example:

$ classify evaluate fresh.csv --task tickets.yaml \\
    --calibration calibration.json

Compare the labels and probabilities of a model with true labels: log loss,
Brier score, accuracy, macro-F1 and calibration error with their intervals,
before and after calibration. --report writes a folder with report.html,
report.json and predictions.csv. Use other rows than you calibrated on.
With several questions, each is compared with the column of the same name.
(classify demo --files and the example of classify calibrate write the files.)
""",
    *_LABELS,
    *_QUESTION,
    *_LABELS_COLUMN,
    *_TEXT_COLUMN,
    *_DECISIONS,
    *_ASKING,
)
def evaluate(
    given: Given,
    notes: Notes,
    source: Labelled,
    *,
    options: EvaluateOptions,
    reading: Reading,
    decisions: DecisionOptions,
) -> None:
    """Measure labels and probabilities on labelled texts."""
    task = task_of(given)
    if given.values["question"] is not None:
        task = task.question(given.values["question"])
    parts = task.by_question().values()
    used = {"a calibration is used": any(each.calibration for each in parts)}
    refuse_unused(given, task_facts(task) | used)
    rules = decisions.rules_of(task)
    written = {"a report is written": options.report is not None}
    refuse_unused(given, reading.facts([source]) | written)
    from classify.cli.evaluate_job import evaluate_table

    evaluate_table(task, rules, reading.table([source]), options, notes)


@as_command(
    """Example:

$ classify doctor

Show versions and devices, load the model, report how it runs and how much
fits into memory, and compare its results with reference values. Exit code 0:
they agree; 1: they differ, or the engine does not start.
Another model: classify doctor --model Qwen/Qwen3-0.6B --engine vllm
How much bfloat16 rounds: classify doctor --dtype bfloat16 --rounding
""",
    *task_options(panels=("Model",)),
)
def doctor(
    given: Given,
    notes: Notes,
    rounding: Annotated[
        bool,
        typer.Option(
            "--rounding",
            help="Also compare answers with the same model in float32 on the CPU, "
            "which takes 4 bytes of memory per parameter.",
        ),
    ] = False,
) -> None:
    """Show what is installed, load an engine, and test its answers."""
    task = task_of(given)
    refuse_unused(given, task_facts(task))
    from classify.cli.doctor import diagnose

    diagnose(task, notes, rounding=rounding)
