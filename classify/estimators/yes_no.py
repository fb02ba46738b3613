"""Whether a label applies to a text: a question of its own, answered with yes or no.

A pair of a text and a label is a row like any other, with the column ``label``, and the
two answers are its labels. So a label's probability depends on no other label, and all
that holds for rows (keys, stores, fingerprints, errors) holds for these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from classify.errors import ConfigError, DataError, InputError, PromptError, RowError
from classify.labels import Label, LabelSet
from classify.labels.names import normal_form
from classify.parameters import Allowed, Setting, check_settings
from classify.prompts import PromptTemplate
from classify.rows.encoding import Row
from classify.rows.prompted_model import Progress, Refuse
from classify.rows.scorer import RowScorer, ScoredRows
from classify.wording import parameter

__all__ = ["NO", "YES", "YesNo", "YesNoScorer", "asked", "yes_no_rows"]

# The names of the answers, whatever words stand for them; sorted, no comes first.
NO, YES = "no", "yes"

_LABEL = "label"


def _words(written: Any) -> Any:
    """Return words as a file or a command has them: a list, or ``Yes,yes``."""
    if isinstance(written, str):
        return tuple(word.strip() for word in written.split(","))
    return written


_WORDS = Allowed(
    "a sequence of at least one word",
    lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(word, str) for word in value)
    ),
    "one or more words, such as Yes,yes",
)


@dataclass(frozen=True, kw_only=True)
class YesNo:
    """The words that say whether a label applies.

    Parameters
    ----------
    yes_words, no_words : sequence of str
        Words that stand for the answer; their probabilities are added up. The prompt
        names the first of each.

    Raises
    ------
    ConfigError
        There are no words, or one stands for both answers.

    Examples
    --------
    >>> YesNo(yes_words=["Ja", "ja"], no_words=["Nein", "nein"]).answers["yes"].words
    ('Ja', 'ja')
    """

    yes_words: Annotated[
        Sequence[str],
        Setting("Words for yes.", _WORDS, metavar="WORDS", read=_words),
    ] = ("Yes", "yes")
    no_words: Annotated[
        Sequence[str],
        Setting("Words for no.", _WORDS, metavar="WORDS", read=_words),
    ] = ("No", "no")

    def __post_init__(self) -> None:
        check_settings(self, "ZeroShotMultiLabelClassifier")
        denied = {normal_form(word) for word in self.no_words}
        for word in self.yes_words:
            if normal_form(word) in denied:
                raise ConfigError(
                    f"{parameter('yes_words')} and {parameter('no_words')} both "
                    f"contain {word!r}, so the two answers could not be told apart: "
                    "remove it from one of them."
                )

    @property
    def answers(self) -> LabelSet:
        """The two answers as labels."""
        return LabelSet(
            [
                Label(YES, words=tuple(self.yes_words)),
                Label(NO, words=tuple(self.no_words)),
            ]
        )

    def template(self, given: PromptTemplate | str | None) -> PromptTemplate:
        """Return the recipe of the question, checked, as are those of its ensemble.

        Raises
        ------
        PromptError
            The template has no place for the label.
        """
        own = PromptTemplate.of(given)
        if own.is_auto:
            raise PromptError(
                f"{parameter('prompt', 'auto')} chooses among prompts that list all "
                "labels, and cannot be used for yes/no questions: give a template with "
                "{text} and {label}, or None for the default."
            )
        members = tuple(self.template(each) for each in own.ensemble)
        own = replace(own, asks="whether", ensemble=members)
        if _LABEL not in own.fields:
            raise PromptError(
                f"The template {own.template!r} asks the same question for every "
                "label: put {label} where the label belongs, after the text."
            )
        if set(own.fields) == {_LABEL}:
            raise PromptError(
                f"The template {own.template!r} asks the same question for every "
                "text: put {text}, or the name of a column in braces, where the text "
                "belongs."
            )
        return own


def asked(label: Label) -> str:
    """Return a label as the question has it.

    Examples
    --------
    >>> asked(Label("billing", "invoices and charges"))
    'billing: invoices and charges'
    """
    word = label.words[0]
    return f"{word}: {label.description}" if label.description else word


def yes_no_rows(
    rows: Sequence[Row | InputError], labels: LabelSet
) -> list[Row | InputError]:
    """Return a row for each pair of a row and a label, those of a row together.

    Labels are in the order of their sorted names.

    Examples
    --------
    >>> yes_no_rows([{"text": "Hello"}], LabelSet.parse(["b", "a"]))
    [{'text': 'Hello', 'label': 'a'}, {'text': 'Hello', 'label': 'b'}]
    """
    columns = [{_LABEL: asked(labels[name])} for name in sorted(labels.names)]
    return [
        {**row, **column} if isinstance(row, Mapping) else row
        for row in rows
        for column in columns
    ]


@dataclass(frozen=True)
class YesNoScorer:
    """Scores rows with a yes/no read for each label. Equal ones give equal scores.

    Attributes
    ----------
    pairs : RowScorer
        Scores pairs of a row and a label; its labels are the answers.
    labels : LabelSet
    """

    pairs: RowScorer
    labels: LabelSet

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the prompt needs of a row."""
        return tuple(name for name in self.pairs.fields if name != _LABEL)

    def scorers(self) -> tuple[RowScorer, ...]:
        """Return what asks rows about one label, for each in sorted order."""
        return tuple(
            replace(self.pairs, fixed=((_LABEL, asked(self.labels[name])),))
            for name in sorted(self.labels.names)
        )

    def score(
        self,
        rows: Sequence[Row | InputError],
        *,
        refuse: Refuse | None = None,
        progress: Progress | None = None,
    ) -> ScoredRows:
        """Score rows, all their labels in one pass.

        Parameters
        ----------
        rows, refuse, progress
            As in `RowScorer.score`, of rows.

        Returns
        -------
        ScoredRows
            The n_labels scores of each row that has no error, one behind the other in
            the order of the sorted labels; and the errors of rows. A row has one where
            any of its labels has, or where neither answer has any probability.
        """
        n_labels = len(self.labels)
        told = _Told(n_labels, progress) if progress is not None else None
        scores, pair_errors = self.pairs.score(
            yes_no_rows(rows, self.labels),
            refuse=refuse and (lambda at, error: refuse(at // n_labels, error)),
            progress=told,
        )
        errors: dict[int, RowError] = {}
        for at, error in pair_errors.items():
            errors.setdefault(at // n_labels, error)
        pairs = [at for at in range(len(rows) * n_labels) if at not in pair_errors]
        names = sorted(self.labels.names)
        for silent in np.flatnonzero(np.isneginf(scores.log_label_mass)):
            row, label = divmod(pairs[silent], n_labels)
            problem = DataError(
                f"neither yes nor no has any probability for label {names[label]!r}."
            )
            if refuse is not None:
                raise refuse(row, problem)
            errors.setdefault(row, problem)
        good = [at // n_labels not in errors for at in pairs]
        scores = scores if all(good) else scores[good]
        return ScoredRows(scores, dict(sorted(errors.items())))

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Return what the scores of each label depend on; see `RowScorer.fingerprint`.

        Loads the tokenizer only.
        """
        shared = self.pairs.fingerprint()  # to digest a model takes a moment
        names = sorted(self.labels.names)
        scorers = zip(names, self.scorers(), strict=True)
        return {name: shared | dict(each.fixed) for name, each in scorers}


class _Told:
    """Counts rows, of whose labels so many were finished."""

    def __init__(self, n_labels: int, progress: Progress) -> None:
        self._n_labels, self._progress, self._n_pairs = n_labels, progress, 0

    def __call__(self, n_pairs: int) -> None:
        before = self._n_pairs // self._n_labels
        self._n_pairs += n_pairs
        if n_rows := self._n_pairs // self._n_labels - before:
            self._progress(n_rows)
