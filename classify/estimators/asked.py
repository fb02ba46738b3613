"""A question as it is asked: what scores rows, and what is decided from the scores."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from classify.cells import need_json
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.given_yes_no import checked_fits
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.prompts.looks import dated
from classify.rows.explanation import Explanation
from classify.rows.multi_results import label_kinds, multi_results
from classify.rows.prompted_model import Refuse
from classify.rows.results import (
    BOUNDS,
    RowResults,
    column_name,
    reasoning_kinds,
    row_results,
)
from classify.rows.scorer import ScoredRows, Scorer
from classify.rows.side_by_side import refuse_for
from classify.tables import ResultKind

__all__ = [
    "Asked",
    "AskedLabels",
    "AskedQuestion",
    "asked_question",
    "dated_question",
    "given_questions",
]


@dataclass(frozen=True, kw_only=True)
class Asked(ABC):
    """A question about each row.

    Attributes
    ----------
    name : str, default=""
        What its columns begin with; empty if it is the only one, whose columns are
        called ``label``, ``probability`` and so on.
    classifier : ZeroShotClassifier or ZeroShotMultiLabelClassifier
    """

    name: str = ""
    classifier: ZeroShotClassifier | ZeroShotMultiLabelClassifier

    def scorers(self) -> tuple[Scorer, ...]:
        """Return what scores rows, one or several; nothing is loaded."""
        return replace(self.classifier.scorer(), question=self.name).each()

    def fingerprint(self) -> dict[str, str]:
        """Return what the scores depend on; loads the tokenizer only."""
        return self.classifier.scorer().fingerprint()

    @abstractmethod
    def rules(self) -> dict[str, dict[str, Any] | None]:
        """Return what decides, as JSON has it, checked against what is scored."""

    def asking(self, classifier: Any) -> Self:
        """Return the same question with another classifier."""
        return replace(self, classifier=classifier)

    @abstractmethod
    def without_files(self) -> Self:
        """Return the same question with what was fitted in place of its files."""

    @abstractmethod
    def kinds(
        self, *, probabilities: bool, bounds: bool, reasoning: bool
    ) -> dict[str, ResultKind]:
        """Return what each column of results holds."""

    @abstractmethod
    def results(
        self,
        n_rows: int,
        scored: Sequence[ScoredRows],
        *,
        refuse: Refuse | None = None,
        probabilities: bool = False,
        bounds: bool = False,
        reasoning: bool = False,
    ) -> RowResults:
        """Return what the scores of each scorer say of rows; see `row_results`."""

    def explanation(self, scored: Sequence[ScoredRows]) -> Explanation:
        """Return the explanation of one row, scored with ``return_steps``."""
        together = self.classifier.scorer().together(1, scored)
        return self.classifier.explanation_of(together.scores)


@dataclass(frozen=True, kw_only=True)
class AskedQuestion(Asked):
    """A question about each row that has one answer.

    Attributes
    ----------
    name, classifier
        As in `Asked`.
    selective : SelectiveClassifier or None
        Fitted: withholds labels; the column ``abstained``.
    sets : SplitConformalSets or None
        Fitted: the column ``label_set``, of lists; in CSV as `join_names` has them.
    """

    classifier: ZeroShotClassifier
    selective: SelectiveClassifier | None = None
    sets: SplitConformalSets | None = None

    def rules(self) -> dict[str, dict[str, Any] | None]:
        """Return what decides, as JSON has it."""
        rules = {
            "calibration": self.classifier.fitted_calibrator(),
            "threshold": self.selective,
            "sets": self.sets,
        }
        kind = self.classifier.question_kind()
        return {name: each and each.to_dict() for name, each in rules.items()} | (
            {} if kind is None else {"kind": kind.to_dict()}
        )

    def without_files(self) -> Self:
        """Return the same question with what was fitted in place of its file."""
        calibrator = self.classifier.fitted_calibrator()
        if calibrator is None:
            return self
        return self.asking(copy.copy(self.classifier).set_params(calibrator=calibrator))

    def results(
        self,
        n_rows: int,
        scored: Sequence[ScoredRows],
        *,
        refuse: Refuse | None = None,
        probabilities: bool = False,
        bounds: bool = False,
        reasoning: bool = False,
    ) -> RowResults:
        """Return what scores say of rows; see `row_results`."""
        [scored_rows], [scorer] = scored, self.scorers()
        return row_results(
            scorer,
            n_rows,
            scored_rows,
            refuse=refuse_for(refuse, self.name),
            posteriors_of=self.classifier.posteriors_of,
            selective=self.selective,
            sets=self.sets,
            kind=self.classifier.question_kind(),
            probabilities=probabilities,
            bounds=bounds,
            reasoning=reasoning,
        )

    def kinds(
        self, *, probabilities: bool, bounds: bool, reasoning: bool
    ) -> dict[str, ResultKind]:
        """Return what each column of results holds."""
        [scorer] = self.scorers()
        bounds = bounds or scorer.gives_bounds
        kinds: dict[str, ResultKind] = {"label": "str", "probability": "float"}
        kinds |= (BOUNDS if bounds else {}) | self.columns_of_kind(bounds=bounds)
        if self.selective is not None:
            kinds["abstained"] = "str"
        if self.sets is not None:
            labels = scorer.declared
            kinds["label_set"] = _lists_of(() if labels is None else labels.names)
        if probabilities:
            for label in sorted(scorer.known_labels().names):
                kinds[f"p({label})"] = "float"
        return _columns_of(self.name, kinds, scorer, reasoning=reasoning)

    def columns_of_kind(self, *, bounds: bool) -> dict[str, ResultKind]:
        """Return what ordinal questions and trees say beyond the label."""
        kind = self.classifier.question_kind()
        if kind is None:
            return {}
        return kind.columns | (kind.bounds if bounds else {})


@dataclass(frozen=True, kw_only=True)
class AskedLabels(Asked):
    """A question about each row to which any number of labels are the answer.

    Attributes
    ----------
    name, classifier
        As in `Asked`. The classifier has the thresholds.
    """

    classifier: ZeroShotMultiLabelClassifier

    def rules(self) -> dict[str, dict[str, Any] | None]:
        """Return what decides, as JSON has it."""
        fits = checked_fits(self.classifier)
        names = self.classifier.scorer().names
        return {
            "calibration": None
            if fits.calibration is None
            else fits.calibration.to_dict(),
            "thresholds": dict(zip(names, fits.thresholds.tolist(), strict=True)),
        }

    def without_files(self) -> Self:
        """Return the same question with what was fitted in place of its files."""
        fits, classifier = checked_fits(self.classifier), copy.copy(self.classifier)
        return self.asking(
            classifier.set_params(
                calibrator=fits.calibration, thresholds=fits.given_thresholds
            )
        )

    def results(
        self,
        n_rows: int,
        scored: Sequence[ScoredRows],
        *,
        refuse: Refuse | None = None,
        probabilities: bool = False,
        bounds: bool = False,
        reasoning: bool = False,
    ) -> RowResults:
        """Return what the scores of all labels say of rows; see `multi_results`.

        There is no column for thoughts: each label has its own.
        """
        scorer = self.classifier.scorer()
        refuse = refuse_for(refuse, self.name)
        return multi_results(
            scorer,
            n_rows,
            scorer.together(n_rows, scored, refuse=refuse),
            posteriors_of=self.classifier.posteriors_of,
            thresholds=checked_fits(self.classifier).thresholds,
            probabilities=probabilities,
            bounds=bounds,
        )

    def kinds(
        self,
        *,
        probabilities: bool,
        bounds: bool,
        reasoning: bool,
    ) -> dict[str, ResultKind]:
        """Return what each column of results holds."""
        scorer = self.classifier.scorer()
        kinds = label_kinds(
            scorer.names,
            _lists_of(scorer.names),
            probabilities=probabilities,
            bounds=bounds or scorer.gives_bounds,
        )
        return _columns_of(self.name, kinds, scorer, reasoning=False)


def asked_question(
    classifier: ZeroShotClassifier | ZeroShotMultiLabelClassifier,
    name: str = "",
    *,
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
) -> Asked:
    """Return the question of an estimator; see `AskedQuestion` for the parameters.

    Raises
    ------
    ConfigError
        `selective` or `sets` is given where any number of labels apply.
    """
    if isinstance(classifier, ZeroShotMultiLabelClassifier):
        if selective is not None or sets is not None:
            raise ConfigError(
                "selective= and sets= are for questions with one answer: for a "
                "ZeroShotMultiLabelClassifier, set its thresholds."
            )
        return AskedLabels(name=name, classifier=classifier)
    return AskedQuestion(
        name=name, classifier=classifier, selective=selective, sets=sets
    )


def given_questions(
    who_asks: str,
    classifier: ZeroShotClassifier | ZeroShotMultiLabelClassifier | None,
    questions: Sequence[Asked],
    *,
    selective: SelectiveClassifier | None,
    sets: SplitConformalSets | None,
) -> tuple[Asked, ...]:
    """Return the question of a classifier, or the questions given in its place.

    `who_asks` begins the error: "A job asks".

    Raises
    ------
    ConfigError
        Neither or both are given, or `selective` or `sets` without a classifier, or
        two questions have the same name.
    """
    if (classifier is None) == (not questions):
        raise ConfigError(
            f"{who_asks} one question, given as classifier=, or several, given as "
            "questions=: give one of the two."
        )
    if classifier is not None:
        return (asked_question(classifier, selective=selective, sets=sets),)
    if selective is not None or sets is not None:
        raise ConfigError(
            "selective= and sets= belong to the question of classifier=: give each "
            "of questions= its own."
        )
    names = [each.name for each in questions]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Several of questions= have the name {name!r}: give each its own."
            )
    return tuple(questions)


def dated_question(question: Asked, date: str) -> Asked:
    """Return a question with this date in place of today's, if its prompt has one."""
    template = question.scorers()[0].model.template
    if not date or dated(template, date) == template:
        return question
    classifier = copy.copy(question.classifier)  # with what was fitted
    return question.asking(classifier.set_params(prompt=dated(template, date)))


def _lists_of(names: Sequence[str]) -> ResultKind:
    return "json_list" if need_json(names) else "list"


def _columns_of(
    question: str,
    kinds: Mapping[str, ResultKind],
    scorer: Scorer,
    *,
    reasoning: bool,
) -> dict[str, ResultKind]:
    """Return columns by their names, followed by those that all questions have."""
    common: dict[str, ResultKind] = {"label_mass": "float", "unresolved": "float"}
    if scorer.asks_repeatedly:
        common["agreement"] = "float"
    common["truncated"] = "bool"
    common |= reasoning_kinds(scorer.scoring, with_text=reasoning)
    named = {**kinds, **common, "error": "str"}
    return {column_name(question, name): kind for name, kind in named.items()}
