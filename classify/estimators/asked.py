"""A question as it is asked: what scores rows, and what is decided from the scores."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from classify.cells import need_json
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import InputError
from classify.estimators.classifier import ZeroShotClassifier
from classify.prompts.ensembles import dated
from classify.rows.encoding import Row
from classify.rows.prompted_model import Refuse
from classify.rows.results import RowResults, column_name, reasoning_kinds, row_results
from classify.rows.scorer import RowScorer
from classify.rows.side_by_side import Encoded, refuse_for, score_encoded
from classify.scoring import LabelLogprobs
from classify.tables import ResultKind

__all__ = ["AskedQuestion", "ask"]


@dataclass(frozen=True, kw_only=True)
class AskedQuestion:
    """A question about each row.

    Attributes
    ----------
    name : str
        What its columns begin with; empty if it is the only one, whose columns are
        called ``label``, ``probability`` and so on.
    classifier : ZeroShotClassifier
    selective : SelectiveClassifier or None
        Fitted: withholds labels; the column ``abstained``.
    sets : SplitConformalSets or None
        Fitted: the column ``label_set``, of lists; in CSV as `join_names` has them.
    """

    name: str = ""
    classifier: ZeroShotClassifier
    selective: SelectiveClassifier | None = None
    sets: SplitConformalSets | None = None

    def scorer(self) -> RowScorer:
        """Return what scores rows; nothing is loaded."""
        return replace(self.classifier.scorer(), question=self.name)

    def dated(self, date: str) -> "AskedQuestion":
        """Return the same with this date in place of today's, if the prompt has one."""
        template = self.scorer().model.template
        if not date or dated(template, date) == template:
            return self
        classifier = copy.copy(self.classifier)  # with what was fitted
        prompt = dated(template, date)
        return replace(self, classifier=classifier.set_params(prompt=prompt))

    def results(
        self,
        n_rows: int,
        scores: LabelLogprobs,
        errors: Mapping[int, str],
        *,
        refuse: Refuse | None = None,
        probabilities: bool = False,
        reasoning: bool = False,
    ) -> RowResults:
        """Return what scores say of rows; see `row_results`."""
        scoring = self.scorer().scoring
        return row_results(
            n_rows,
            scores,
            errors,
            refuse=refuse_for(refuse, self.name),
            log_proba_of=self.classifier.log_proba_of,
            selective=self.selective,
            sets=self.sets,
            kind=self.classifier.question_kind(),
            probabilities=probabilities,
            reasoning=reasoning_kinds(scoring, with_text=reasoning),
            agreement=self._asks_repeatedly,
        )

    def kinds(self, *, probabilities: bool, reasoning: bool) -> dict[str, ResultKind]:
        """Return what each column of results holds."""
        scorer = self.scorer()
        kinds: dict[str, ResultKind] = {"label": "str", "probability": "float"}
        kinds |= self.columns_of_kind
        if self.selective is not None:
            kinds["abstained"] = "str"
        if self.sets is not None:
            labels = scorer.declared
            is_plain = labels is None or not need_json(labels.names)
            kinds["label_set"] = "list" if is_plain else "json_list"
        if probabilities:
            for label in sorted(scorer.known_labels().names):
                kinds[f"p({label})"] = "float"
        kinds |= {"label_mass": "float", "unresolved": "float"}
        if self._asks_repeatedly:
            kinds["agreement"] = "float"
        kinds["truncated"] = "bool"
        kinds |= reasoning_kinds(scorer.scoring, with_text=reasoning)
        kinds["error"] = "str"
        return {column_name(self.name, name): kind for name, kind in kinds.items()}

    @property
    def columns_of_kind(self) -> dict[str, ResultKind]:
        """What ordinal questions and trees say beyond the label."""
        kind = self.classifier.question_kind()
        return {} if kind is None else kind.columns

    @property
    def brings_no_labels(self) -> bool:
        """Whether each row must bring its own."""
        return self.classifier.labels is None

    @property
    def _asks_repeatedly(self) -> bool:
        """Whether there are several prompts about a row."""
        return self.scorer().model.template.asks_repeatedly


def ask(
    questions: Sequence[AskedQuestion],
    rows: Sequence[Sequence[Row | InputError]],
    *,
    refuse: Refuse | None = None,
    probabilities: bool = False,
    reasoning: bool = False,
) -> dict[str, RowResults]:
    """Return the answers to questions about the same rows, by name.

    Parameters
    ----------
    questions : sequence of AskedQuestion
        Over one model.
    rows : sequence of sequences of mapping or InputError
        For each question, what its prompt needs of each row.
    refuse : callable, default=None
        Makes the exception that a row with an error raises. None: it is set aside.
    probabilities, reasoning : bool, default=False
        As in `AskedQuestion.kinds`.
    """
    encoded = []
    for question, some in zip(questions, rows, strict=True):
        scorer = question.scorer()
        columns = sorted(scorer.known_labels().names)
        encoded.append(
            Encoded(scorer.model, scorer.encode(some, None), columns, question.name)
        )
    strategy = questions[0].scorer().read_strategy()
    scored = score_encoded(encoded, strategy, refuse=refuse)
    return {
        question.name: question.results(
            len(some),
            each.scores,
            {at: str(error) for at, error in each.errors.items()},
            refuse=refuse,
            probabilities=probabilities,
            reasoning=reasoning,
        )
        for question, some, each in zip(questions, rows, scored, strict=True)
    }
