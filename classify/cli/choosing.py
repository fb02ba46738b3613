"""The prompt of ``--template auto``: chosen on the first texts, kept by the job."""

from dataclasses import replace
from pathlib import Path

from classify.cli.console import Notes
from classify.cli.job_progress import JobProgress
from classify.errors import ConfigError, PromptError
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.prompt_choice import N_TEXTS, PromptTuning, tune_rows
from classify.jobs import RowColumns, saved_fingerprint
from classify.prompts import PromptTemplate
from classify.prompts.candidates import CURRENT, candidate_prompts, few_shot_prompts
from classify.rows.scorer import RowScorer
from classify.tables.table import Table
from classify.wording import parameter

__all__ = ["choose_prompt", "conclusion"]


def choose_prompt(
    classifier: ZeroShotClassifier,
    columns: RowColumns,
    table: Table,
    folder: Path | None,
    notes: Notes,
) -> None:
    """Give a classifier the prompt that suits the first texts of a table.

    A job that was begun in `folder` goes on with the prompt that it began with.
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
    rows = columns.rows(chunk, scorer.model.template.fields)
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


def _possible(scorer: RowScorer) -> dict[str, PromptTemplate]:
    """Return all prompts that could have been chosen."""
    own, tokenizer = scorer.model.template, scorer.model.load_tokenizer()
    prompts = candidate_prompts(
        own, scorer.known_labels(), has_chat_template=tokenizer.has_chat_template
    )
    if own.chooses_examples:
        bare = {name: each for name, each in prompts.items() if name != CURRENT}
        prompts |= few_shot_prompts(own, bare)
    return prompts


def _prompt_digest(scorer: RowScorer, prompt: PromptTemplate) -> str | None:
    """Return what a job's fingerprint says of a prompt; None if it cannot be used."""
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
            f"after calibration, its log loss is {best.log_loss:.3f} nats, against "
            f"{current.log_loss:.3f} for the current one"
        )
    else:
        said = (
            f"its predictions carry {best.information:.3f} nats of information about "
            f"the text, against {current.information:.3f} for the current one"
        )
    cost = best.n_tokens / current.n_tokens
    return (
        f"On {texts}, {best.name!r} is the best prompt: {said}, at {cost:.2f} times "
        "the tokens."
    )
