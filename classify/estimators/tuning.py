"""Which prompt suits a model and its labels: measured on a few dozen texts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.prompt_choice import N_TEXTS, PromptTuning, tune_rows
from classify.labels.values import labels_of_y
from classify.prompts import PromptTemplate
from classify.rows.frames import rows_and_candidates
from classify.rows.prompted_model import Progress

__all__ = ["tune_prompt"]


def tune_prompt(
    classifier: ZeroShotClassifier,
    X: Any,
    y: Any = None,
    *,
    prompts: Mapping[str, PromptTemplate | str] | None = None,
    n_texts: int = N_TEXTS,
    random_state: int = 0,
    progress: Progress | None = None,
) -> PromptTuning:
    r"""Compare prompts on a few dozen texts, and find the one that suits the model.

    Without labels, the best prompt is the one with the highest mutual information
    between label and text (Sorensen et al., 2022). With labels it is the one with the
    lowest cross-validated log loss after calibration.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Model, labels and current prompt. It stays as it is:
        ``classifier.set_params(prompt=tuning.best)`` takes the best prompt.
    X : sequence of str, Series, array, or DataFrame
        Texts like those to be classified; or rows with the columns that the prompt
        needs.
    y : sequence, default=None
        Their labels. None: the prompts are compared without.
    prompts : mapping of str to PromptTemplate or str, default=None
        Prompts to compare with the classifier's own. None: those of
        `candidate_prompts` that the model can be asked with. If the classifier's own
        shows examples from a table, they show none, and the two best are compared
        once more with balanced and with nearest examples.
    n_texts : int, default=64
        Texts to score with each prompt; drawn at random if `X` has more.
    random_state : int, default=0
        Seed of the draw.
    progress : callable, default=None
        Called with the number of texts scored since the last call.

    Returns
    -------
    PromptTuning

    Raises
    ------
    InputError
        No text can be scored, there are too few labels, or a prompt cannot be used with
        the model.

    Notes
    -----
    The figures of the best prompt are slightly optimistic, since the prompt was chosen
    by them: evaluate it on other texts.

    Examples
    --------
    >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
    >>> texts = ["My parcel has not arrived.", "I was charged twice."]
    >>> tuning = tune_prompt(clf, texts, prompts={"terse": "{text} ->"})
    >>> sorted(each.name for each in tuning.prompts)
    ['current', 'terse']
    """
    scorer = classifier.scorer()
    labels, true = labels_of_y(scorer.declared, y, len(X))
    rows, _ = rows_and_candidates(X, None, scorer.fields)
    return tune_rows(
        replace(scorer, declared=labels),
        rows,
        true,
        prompts=prompts,
        n_texts=n_texts,
        random_state=random_state,
        progress=progress,
    )
