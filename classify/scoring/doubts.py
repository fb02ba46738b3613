"""Signs of unreliable predictions: one label for nearly all texts, or low label mass.

They are logged as warnings, in the same words wherever texts are scored.
"""

import logging
from collections.abc import Collection, Mapping

from classify.wording import parameter

__all__ = [
    "doubt_label_mass",
    "doubt_labels",
    "doubt_labels_left_out",
    "doubt_one_label",
]

logger = logging.getLogger(__name__)

# A larger share of the texts with the same label is told of, from so many texts on. If
# the commonest class has 80 % of 30 texts, chance brings 29 of them in 1 case of 100.
MIN_TEXTS = 30
MIN_SHARE = 0.95
# Of texts with true labels: a table whose classes are so uneven is no reason for doubt.
MAX_TRUE_SHARE = 0.9
# Below the greatest of these, a label is not the more likely answer; mean label mass.
_OTHER_ANSWERS = {0.01: "nearly all", 0.1: "most", 0.5: "more than half"}
MAX_DOUBTFUL_MASS = max(_OTHER_ANSWERS)


def doubt_label_mass(mean: float, question: str = "") -> bool:
    """Log a warning if the model would rather answer with something else than a label.

    Parameters
    ----------
    mean : float
        Mean label mass.
    question : str, default=""
        Which one it is about, where there are several.

    Returns
    -------
    bool
        Whether there was reason to.
    """
    for limit, share in _OTHER_ANSWERS.items():
        if mean < limit:
            logger.warning(
                "%sThe mean label mass is %.2g: the model puts %s of its probability "
                "on answers other than the labels, and the labels share what is left. "
                "%s, or label words that it would use itself.",
                _about(question),
                mean,
                share,
                _remedies(),
            )
            return True
    return False


def doubt_one_label(
    predicted: Mapping[str, int],
    true: Mapping[str, int] | None = None,
    question: str = "",
    *,
    n_texts: int | None = None,
) -> bool:
    """Log a warning if nearly all texts get the same label.

    Parameters
    ----------
    predicted : mapping of label to int
        Texts by predicted label.
    true : mapping of label to int, default=None
        The same texts by true label, where these are known: a share that is not far
        from the truth is no reason.
    question : str, default=""
        Which one it is about, where there are several.
    n_texts : int, default=None
        Where a text may have any number of labels. None: each has one.

    Returns
    -------
    bool
        Whether there was reason to.
    """
    n_texts = sum(predicted.values()) if n_texts is None else n_texts
    label, n_most = max(predicted.items(), key=lambda each: each[1], default=("", 0))
    if n_texts < MIN_TEXTS or n_most < MIN_SHARE * n_texts:
        return False
    if true is None:
        logger.warning(
            "%s%d of %d texts get the label %r. If that is not what you expect, the "
            "prompt or the model favours it regardless of the text. "
            "%s, or calibrate: prior_matching needs no labelled texts.",
            _about(question),
            n_most,
            n_texts,
            label,
            _remedies(),
        )
        return True
    n_true = true.get(label, 0)
    if n_true >= MAX_TRUE_SHARE * n_texts:
        return False
    logger.warning(
        "%d of %d texts get the label %r, but only %d have it: the prompt or the model "
        "favours it regardless of the text. "
        "%s, or calibrate: prior_matching needs no labelled texts.",
        n_most,
        n_texts,
        label,
        n_true,
        _remedies(),
    )
    return True


def doubt_labels(
    certain: Collection[bool], tolerance: float, question: str = ""
) -> None:
    """Log a warning if labels of texts may be other ones by what is not known."""
    n_uncertain = len(certain) - sum(map(bool, certain))
    if n_uncertain:
        logger.warning(
            "%s%d of %d texts may have another label: the engine, the strategy or the "
            "shortlist leaves more than the tolerance of %g unknown, and their labels "
            "and probabilities are estimates. classify_frame gives the bounds of each "
            "text.",
            _about(question),
            n_uncertain,
            len(certain),
            tolerance,
        )


def doubt_labels_left_out(n_uncertain: int, n_texts: int, question: str = "") -> None:
    """Log a warning if labels may apply to texts that do not get them."""
    if n_uncertain:
        logger.warning(
            "%s%d of %d texts may have more labels than they are given: the engine, "
            "the strategy or the tolerance leaves unknown whether these labels reach "
            "their thresholds. classify_frame(bounds=True) lists them in the column "
            "uncertain.",
            _about(question),
            n_uncertain,
            n_texts,
        )


def _about(question: str) -> str:
    return f"Question {question!r}: " if question else ""


def _remedies() -> str:
    return (
        f"Try {parameter('options')} or {parameter('answer_prefix')} (such as "
        f"'Category:'), {parameter('chat', False)}, a larger model"
    )
