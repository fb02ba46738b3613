"""`classify tune`, the table that it prints, and the choice of `--template auto`."""

from dataclasses import replace
from pathlib import Path

from rich.table import Table as Shown

from classify.cli.console import Notes
from classify.cli.fitting import TuneOptions
from classify.cli.job_progress import JobProgress
from classify.cli.labelled_csv import checked_rows
from classify.cli.loading import load_classifier
from classify.cli.overwriting import TUNED, check_tuned, replacing
from classify.cli.tables import figures_table
from classify.cli.task import declared_labels
from classify.config import Task, task_yaml
from classify.errors import ConfigError, PromptError
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.prompt_choice import N_TEXTS, PromptTuning, tune_rows
from classify.files.atomic import atomic_file
from classify.jobs import RowColumns, saved_fingerprint
from classify.jobs.output import check_place
from classify.prompts import PromptTemplate
from classify.prompts.candidates import CURRENT, candidate_prompts, few_shot_prompts
from classify.rows.scorer import Scorer
from classify.tables.table import Table
from classify.wording import parameter

__all__ = ["choose_prompt", "conclusion", "tune_table"]


def tune_table(
    task: Task,
    table: Table,
    options: TuneOptions,
    notes: Notes,
) -> None:
    """Compare prompts on a table's texts, print the table, and write the task."""
    output = options.output
    if task.labels_column is not None:
        raise ConfigError(
            "The task has candidate labels of each row (labels_column: "
            f"{task.labels_column}), but here every row may have any label: leave it "
            "out."
        )
    if output is not None:
        check_place(output, table)
        if not options.overwrite:
            check_tuned(output)
        where = replacing(output, "an earlier one")
    # It was fitted with another prompt.
    calibration = task.calibration
    task = replace(
        task.changed({"calibration": None}), prompt=task.prompt.without_auto()
    )
    labelled = checked_rows(task, table, notes, label_column=options.label_column)
    classifier = load_classifier(task, notes)
    with JobProgress(notes) as progress:
        tuning = tune_rows(
            replace(classifier.scorer(), declared=declared_labels(task)),
            labelled.rows,
            None if labelled.labels is None else labelled.labels.tolist(),
            n_texts=options.n_texts,
            begins=lambda n_reads: progress.begins(n_reads, 0),
            progress=lambda n_reads: progress.progressed(n_reads, 0),
        )
    notes.results(narrow=True).print(_table(tuning))
    best = tuning.prompts[0]
    notes.say(conclusion(tuning))
    if output is None:
        notes.note("Write it to a task file with --output FILE.")
        return
    prompt = best.prompt
    if options.ensemble is not None:
        prompt = tuning.ensemble(options.ensemble)
        names = [each.name for each in tuning.prompts[: options.ensemble]]
        notes.say(f"The ensemble is {', '.join(map(repr, names))}.")
    tuned = replace(task, prompt=prompt)
    with atomic_file(output) as file:
        file.write(f"{TUNED}\n{task_yaml(tuned)}".encode())
    notes.say(f"Written to {where}: use it with --task {output}.")
    if calibration is not None and prompt != task.prompt:
        notes.warn(
            f"The calibration {calibration!r} was fitted with the previous prompt, so "
            "the new file leaves it out: run classify calibrate again."
        )


def _table(tuning: PromptTuning) -> Shown:
    """Return a row for each prompt, best first."""
    columns = ["information", "mass", "tokens"]
    if tuning.is_labelled:
        columns = ["log loss", "accuracy", *columns]
    rows = []
    for each in tuning.prompts:
        figures = [
            f"{each.information:.3f}",
            f"{each.label_mass:.3f}",
            f"{each.n_tokens:.0f}",
        ]
        if each.log_loss is not None and each.accuracy is not None:
            figures = [f"{each.log_loss:.3f}", f"{each.accuracy:.3f}", *figures]
        rows.append([each.name, *figures])
    return figures_table(columns, rows)


def choose_prompt(
    classifier: ZeroShotClassifier,
    columns: RowColumns,
    table: Table,
    folder: Path | None,
    notes: Notes,
) -> None:
    """Give a classifier the prompt that suits the first texts of a table.

    A job that was started in `folder` continues with the prompt that it started with.
    """
    scorer = classifier.scorer()
    begun = None if folder is None else saved_fingerprint(folder)
    if begun is not None:
        for name, prompt in _possible(scorer).items():
            if _prompt_digest(scorer, prompt) == begun["prompt"]:
                notes.say(f"The prompt is {name!r}, as when the job began.")
                classifier.set_params(prompt=prompt)
                return
    if not table.resumable:
        raise ConfigError(
            f"{parameter('template', 'auto')} reads the first rows twice, which "
            f"{table.name} does not allow: name a file, or choose a prompt with "
            "classify tune."
        )
    chunk = next(table.chunks(N_TEXTS), table.no_rows())
    rows = columns.rows(chunk, scorer.fields)
    with JobProgress(notes) as progress:
        tuning = tune_rows(
            scorer,
            rows,
            None,
            begins=lambda n_reads: progress.begins(n_reads, 0),
            progress=lambda n_reads: progress.progressed(n_reads, 0),
        )
    notes.say(conclusion(tuning))
    classifier.set_params(prompt=tuning.best)


def _possible(scorer: Scorer) -> dict[str, PromptTemplate]:
    """Return all prompts that could have been chosen."""
    own, tokenizer = scorer.model.template, scorer.model.load_tokenizer()
    prompts = candidate_prompts(
        own, scorer.known_labels(), has_chat_template=tokenizer.has_chat_template
    )
    if own.chooses_examples:
        bare = {name: each for name, each in prompts.items() if name != CURRENT}
        prompts |= few_shot_prompts(own, bare)
    return prompts


def _prompt_digest(scorer: Scorer, prompt: PromptTemplate) -> str | None:
    """Return a prompt's digest in a job's fingerprint; None if it cannot be used."""
    asking = replace(scorer, model=replace(scorer.model, template=prompt))
    try:
        return asking.fingerprint()["prompt"]
    except PromptError:
        return None


def conclusion(tuning: PromptTuning) -> str:
    """Return which prompt is the best, and what it gains and costs, as a sentence."""
    best, current = tuning.prompts[0], tuning.current
    texts = f"{tuning.n_texts:,} {'labelled ' * tuning.is_labelled}texts"
    if best.name == CURRENT:
        return f"On {texts}, no other prompt is better than the current one."
    if current is None:
        return f"On {texts}, {best.name!r} is the best prompt."
    if tuning.is_labelled:
        said = (
            f"after calibration, its log loss is {best.log_loss:.3f} nats, compared "
            f"with {current.log_loss:.3f} for the current one"
        )
    else:
        said = (
            f"its predictions carry {best.information:.3f} nats of information about "
            f"the text, compared with {current.information:.3f} for the current one"
        )
    cost = best.n_tokens / current.n_tokens
    return (
        f"On {texts}, {best.name!r} is the best prompt: {said}, at {cost:.2f} times "
        "the tokens."
    )
