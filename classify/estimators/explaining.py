"""How the probabilities of one text's labels come about, for both classifiers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from classify.cells import shown
from classify.decision.posteriors import LabelPosteriors, Posteriors
from classify.errors import InputError, RowError
from classify.rows.explanation import Explanation
from classify.rows.frames import rows_and_candidates
from classify.scoring import LabelLogprobs

__all__ = ["ExplainsAnswer", "ExplainsLabels", "one_text", "refuse_explaining"]


class ExplainsAnswer:
    """Explains an answer that is one of the labels."""

    def explain(
        self,
        text: str | Mapping[str, str],
        *,
        labels: Sequence[str] | None = None,
    ) -> Explanation:
        """Explain how the probabilities of a text come about.

        Parameters
        ----------
        text : str, or mapping of str to str
            A mapping has the columns that the prompt needs.
        labels : sequence of str, default=None
            Candidate labels. None: all.

        Returns
        -------
        Explanation
            Printed, or shown in a notebook, it is a picture. It has the values from
            which `predict_proba` is computed.

        Examples
        --------
        >>> from classify import ZeroShotClassifier
        >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
        >>> clf.explain("My parcel has not arrived.").label_frame()["label"].tolist()
        ['shipping', 'billing']
        """
        self.fitted_calibrator()
        scorer = self.scorer()
        rows, listed = rows_and_candidates(
            one_text(text), None if labels is None else [labels], scorer.fields
        )
        scored = scorer.score(rows, listed, refuse=refuse_explaining, return_steps=True)
        return self.explanation_of(scored.scores)

    def explanation_of(self, scores: LabelLogprobs) -> Explanation:
        """Return the explanation of the scores of one text, whose reads were kept."""
        return Explanation.of(
            scores,
            self.posteriors_of(scores),
            self.scorer().model.load_tokenizer().pieces,
            is_calibrated=self.fitted_calibrator() is not None,
        )

    def scorer(self) -> Any:
        """Return what scores rows."""
        raise NotImplementedError

    def fitted_calibrator(self) -> Any:
        """Return the calibrator, checked against what is scored now."""
        raise NotImplementedError

    def posteriors_of(self, scores: LabelLogprobs) -> Posteriors:
        """Return what was made of scores."""
        raise NotImplementedError


class ExplainsLabels:
    """Explains which of the labels apply."""

    def explain(self, text: str | Mapping[str, str]) -> Explanation:
        """Explain how the probabilities of a text come about.

        Parameters
        ----------
        text : str, or mapping of str to str
            A mapping has the columns that the prompt needs.

        Returns
        -------
        Explanation
            The answers yes and no to the question about each label.
        """
        scorer = self.scorer()
        rows, _ = rows_and_candidates(one_text(text), None, scorer.fields)
        scored = scorer.score(rows, refuse=refuse_explaining, return_steps=True)
        return self.explanation_of(scored.scores)

    def explanation_of(self, scores: LabelLogprobs) -> Explanation:
        """Return the explanation of the answers about all labels of one text."""
        scorer = self.scorer()
        return Explanation.of_labels(
            scores,
            scorer.names,
            self.posteriors_of(scores),
            scorer.model.load_tokenizer().pieces,
            is_calibrated=self.calibrator is not None,
        )

    calibrator: Any

    def scorer(self) -> Any:
        """Return what scores rows."""
        raise NotImplementedError

    def posteriors_of(self, scores: LabelLogprobs) -> LabelPosteriors:
        """Return what was made of scores."""
        raise NotImplementedError


def one_text(text: str | Mapping[str, str]) -> Any:
    """Return one text as several are given."""
    if isinstance(text, str):
        return [text]
    if isinstance(text, Mapping):
        return pd.DataFrame([text])
    raise InputError(
        "explain takes one text: a string, or a mapping with the columns that the "
        f"prompt needs. Got {shown(text)} of type {type(text).__name__} instead."
    )


def refuse_explaining(_: int, error: RowError) -> RowError:
    """Return the error of a text that cannot be explained."""
    return type(error)(f"The text cannot be explained: {error}")
