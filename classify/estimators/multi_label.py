"""The scikit-learn estimator for multi-label classification."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags

from classify.calibration import LabelCalibrator
from classify.calibration.yes_no import YesNoCalibration
from classify.decision import LabelThresholds, fit_thresholds
from classify.decision.posteriors import LabelPosteriors
from classify.engines import Engine
from classify.errors import LabelError
from classify.estimators.explaining import ExplainsLabels
from classify.estimators.given_yes_no import (
    CheckedFits,
    checked_fits,
    fit_yes_no,
    fits_fingerprint,
    given_thresholds,
    must_be_fitted,
)
from classify.estimators.text_classifier import TextClassifier
from classify.labels import Labels, LabelSet
from classify.labels.indicators import indicators_of
from classify.prompts import PromptTemplate
from classify.questions.yes_no import YesNo
from classify.rows.frames import (
    add_results,
    frame_of,
    row_refusal,
    rows_and_candidates,
    rows_of_frame,
)
from classify.rows.multi_results import multi_results
from classify.rows.prompted_model import Progress, PromptedModel
from classify.rows.scorer import Scorer, text_error
from classify.scoring import LabelLogprobs
from classify.scoring.doubts import doubt_labels_left_out
from classify.spec import Scoring
from classify.tokenizer import Tokenizer
from classify.verbalizer import Verbalizer
from classify.verbalizer.audit import LabelAudit

__all__ = ["ZeroShotMultiLabelClassifier"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class ZeroShotMultiLabelClassifier(TextClassifier, ExplainsLabels):
    """Decides which labels apply to a text: any number of them, or none.

    For each label the model is asked whether it applies, and the probability of the
    words for yes is compared with that of the words for no. All questions about a text
    are read in one pass. A label's probability depends on no other label.

    Usable without `fit` when `labels` are given, unless a calibrator has to be fitted.

    Parameters
    ----------
    labels : LabelSet, sequence of str, Enum class, or mapping, default=None
        See `LabelSet.parse`; a description is part of the question. None: learned from
        the names in `Y` in `fit`.
    model : str, default="demo"
        As in `ZeroShotClassifier`, as are all parameters that are not described here.
    engine : str or Engine, default="auto"
    prompt : PromptTemplate or str, default=None
        The recipe of the question, with ``{text}``, ``{label}``, and ``{labels}`` for
        the first words for yes and no. Put the text first and the label last, so that
        what is the same for all labels is computed only once. None: the default prompt,
        in English.
    yes_words, no_words : sequence of str, default=("Yes", "yes"), ("No", "no")
        The words that stand for each answer; their probabilities are added up.
    thresholds : float, mapping, LabelThresholds, str or Path, default=None
        The probability from which on a label applies: one for all labels, or a mapping
        by label (0.5 for others), or what `fit_thresholds` returned, or its file. None:
        those in the file of ``classify calibrate`` that `calibrator` names, else 0.5.
    verbalizer : Verbalizer, default=None
    strategy : {"exact", "generate", "reason"}, default="exact"
    tolerance : float, default=1e-3
    max_reasoning_tokens : int, default=512
    n_chains : int, default=1
    chain_temperature : float, default=0.7
    chain_seed : int, default=0
    dtype, device, batch_size : default="auto"
    revision : str, default=None
    trust_remote_code : bool, default=False
    tokenizer : Tokenizer, default=None
    speculation : str or mapping, default=None
    calibrator : str, Path, LabelCalibrator or YesNoCalibration, default=None
        Corrects each label's probabilities. The name of a method or an unfitted
        `LabelCalibrator` is fitted in `fit` for each label by itself, to the answers
        "yes" and "no"; with a name, the prior is the label's share of `Y`. Or what was
        fitted, `calibrator_`, or the file that its ``save`` or ``classify calibrate``
        wrote.
    engine_options : mapping, default=None

    Attributes
    ----------
    classes_ : ndarray of str, shape (n_labels,)
        Label names, sorted: the columns of `predict` and `predict_proba`.
    label_set_ : LabelSet
        The labels in their declared order.
    calibrator_ : YesNoCalibration
        What was fitted or given; with a calibrator only.

    Examples
    --------
    >>> from classify import ZeroShotMultiLabelClassifier
    >>> clf = ZeroShotMultiLabelClassifier(["billing", "shipping"])
    >>> clf.predict_proba(["My parcel has not arrived."]).shape
    (1, 2)
    """

    def __init__(
        self,
        labels: Labels | None = None,
        model: str = "demo",
        *,
        engine: str | Engine = "auto",
        prompt: PromptTemplate | str | None = None,
        yes_words: Sequence[str] = YesNo.yes_words,
        no_words: Sequence[str] = YesNo.no_words,
        thresholds: (
            float
            | Mapping[str, float]
            | LabelThresholds
            | str
            | os.PathLike[str]
            | None
        ) = None,
        verbalizer: Verbalizer | None = None,
        strategy: Literal["exact", "generate", "reason"] = "exact",
        tolerance: float = 1e-3,
        max_reasoning_tokens: int = 512,
        n_chains: int = 1,
        chain_temperature: float = 0.7,
        chain_seed: int = 0,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        tokenizer: Tokenizer | None = None,
        speculation: str | Mapping[str, Any] | None = None,
        calibrator: (
            str | os.PathLike[str] | LabelCalibrator | YesNoCalibration | None
        ) = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.labels = labels
        self.model = model
        self.engine = engine
        self.prompt = prompt
        self.yes_words = yes_words
        self.no_words = no_words
        self.thresholds = thresholds
        self.verbalizer = verbalizer
        self.strategy = strategy
        self.tolerance = tolerance
        self.max_reasoning_tokens = max_reasoning_tokens
        self.n_chains = n_chains
        self.chain_temperature = chain_temperature
        self.chain_seed = chain_seed
        self.dtype = dtype
        self.device = device
        self.batch_size = batch_size
        self.revision = revision
        self.trust_remote_code = trust_remote_code
        self.tokenizer = tokenizer
        self.speculation = speculation
        self.calibrator = calibrator
        self.engine_options = engine_options

    def fit(
        self, X: Any, Y: Any = None, sample_weight: Any = None
    ) -> "ZeroShotMultiLabelClassifier":
        """Learn the labels from `Y` if none were declared, and fit the calibrator.

        Parameters
        ----------
        X : sequence of str, or DataFrame
            Texts; scored only where there is a calibrator to fit.
        Y : array-like, shape (n_texts, n_labels), or sequence of lists of names
            1 where a label applies, 0 elsewhere, the labels sorted by name or as the
            columns of a DataFrame say; or the names of each text's labels. Default:
            None.
        sample_weight : array, shape (n_texts,), default=None
            Weights of the texts, for the calibrator.

        Returns
        -------
        self
        """
        declared = None if self.labels is None else LabelSet.parse(self.labels)
        n_texts = 0 if X is None else len(X)
        self.label_set_, true = indicators_of(declared, Y, n_texts)
        scorer = self.scorer()
        given_thresholds(self.thresholds, self.label_set_)
        if self.calibrator is None:
            return self
        if must_be_fitted(self.calibrator):
            rows, _ = rows_and_candidates(X, None, scorer.fields)
            self.calibrator_: YesNoCalibration | None = fit_yes_no(
                self.calibrator, scorer, rows, true, sample_weight
            )
        else:
            self.calibrator_ = self._check().calibration
        return self

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Label names, sorted, shape (n_labels,)."""
        return np.array(sorted(self._known_labels().names))

    def predict(self, X: Any) -> IntArray:
        """Return 1 where a label applies, 0 elsewhere, shape (n_texts, n_labels).

        Where p(label applies) is known within bounds, the lower one must reach the
        threshold.
        """
        return self._posteriors(X).given(self._check().thresholds).astype(np.int64)

    def predict_proba(self, X: Any) -> FloatArray:
        """Return p(label applies), shape (n_texts, n_labels).

        p(yes) / (p(yes) + p(no)) of the question about each label, corrected by the
        calibrator if there is one. Rows sum to anything from 0 to n_labels.

        Parameters
        ----------
        X : sequence of str, Series, array, or DataFrame
            Texts; or rows with the columns that the prompt needs.
        """
        return self._posteriors(X).proba

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of texts all of whose labels are predicted right."""
        true = indicators_of(self._known_labels(), y, len(X)).values
        predicted = self.predict(X)
        return float(accuracy_score(true, predicted, sample_weight=sample_weight))

    def fit_thresholds(
        self,
        X: Any,
        Y: Any,
        *,
        target: Literal["f1", "precision", "recall", "risk"] = "f1",
        level: float | None = None,
        confidence_level: float = 0.95,
    ) -> LabelThresholds:
        """Return a threshold for each label, with a guarantee; see `fit_thresholds`.

        Where p(label applies) is known within bounds, they are fitted to the lower
        ones, which `predict` compares with them. Use it as
        ``set_params(thresholds=…)``, or save it.

        Parameters
        ----------
        X : sequence of str, or DataFrame
            Texts that the calibrator was not fitted on.
        Y : array-like, shape (n_texts, n_labels), or sequence of lists of names
            As in `fit`.
        target : {"f1", "precision", "recall", "risk"}, default="f1"
        level : float, default=None
            Precision or recall of at least this, risk of at most this.
        confidence_level : float, default=0.95

        Returns
        -------
        LabelThresholds
        """
        labels = self._known_labels()
        true = indicators_of(labels, Y, len(X)).values
        if true is None:
            raise LabelError("Thresholds are fitted to labels: give Y.")
        scorer = self.scorer()
        return fit_thresholds(
            self._posteriors(X, doubt=False).least,
            true,
            sorted(labels.names),
            target=target,
            level=level,
            confidence_level=confidence_level,
            fingerprint=fits_fingerprint(scorer, self._check().calibration),
        )

    def classify_frame(
        self,
        frame: pd.DataFrame,
        *,
        text_column: str = "text",
        probabilities: bool = False,
        bounds: bool = False,
        on_error: Literal["raise", "set_aside"] = "raise",
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Return the frame with its predictions in further columns.

        Parameters
        ----------
        frame : DataFrame, or table of polars, pyarrow or datasets
            Rows with a text, and with what else the prompt needs.
        text_column : str, default="text"
            Which column is the prompt's ``{text}``.
        probabilities : bool, default=False
            Add a column ``p(<label>)`` for each label.
        bounds : bool, default=False
            Add ``uncertain``, the labels that may apply but are not assigned, and
            ``lower(…)`` and ``upper(…)`` for each ``p(…)``.
        on_error : {"raise", "set_aside"}, default="raise"
            "set_aside" continues, and gives the reason in the column ``error``.
        progress : callable, default=None
            Called with the number of rows finished since the last call.

        Returns
        -------
        DataFrame
            The input's columns, then ``labels``, as ``a|b`` (``[]``: none applies; a
            JSON list where names hold a ``|``), bounds, ``p(…)``, ``label_mass`` (the
            least of the mass of yes and no), ``unresolved``; ``agreement`` (several
            prompts); ``truncated``; with "reason" ``cut``, and with several chains
            ``agreement``, ``standard_error``; ``error``. Names taken: ``predicted_…``.
        """
        frame = frame_of(frame)
        refuse = row_refusal(frame.index) if on_error == "raise" else None
        thresholds, scorer = self._check().thresholds, self.scorer()
        scored = scorer.score(
            rows_of_frame(frame, scorer.fields, text_column),
            refuse=refuse,
            progress=progress,
        )
        results = multi_results(
            scorer,
            len(frame),
            scored,
            posteriors_of=self.posteriors_of,
            thresholds=thresholds,
            probabilities=probabilities,
            bounds=bounds,
        )
        return add_results(frame, {"": results}, with_errors=on_error == "set_aside")

    def scorer(self) -> Scorer:
        """Return what scores rows: model, labels and strategy; nothing is loaded."""
        words = YesNo(yes_words=self.yes_words, no_words=self.no_words)
        scoring = Scoring.of(self)
        model = PromptedModel.of(self, words.template(self.prompt), scoring)
        return Scorer(model, words.answers, scoring, about=tuple(self._known_labels()))

    def posteriors_of(self, scores: LabelLogprobs) -> LabelPosteriors:
        """Return what is known of p(label applies), by the scores of `scorer`."""
        return self._check().posteriors_of(scores, self.scorer().names)

    def audit(self) -> LabelAudit:
        """Return how yes and no will be read; loads the tokenizer only."""
        scorer = self.scorer()
        return scorer.model.audit(scorer.known_labels())

    def load_engine(self) -> Engine:
        """Return what runs the model, loaded if it was not yet."""
        return self.scorer().model.load_engine()

    def __sklearn_is_fitted__(self) -> bool:
        if must_be_fitted(self.calibrator):
            return hasattr(self, "calibrator_")
        return self.labels is not None or hasattr(self, "label_set_")

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.requires_fit = self.labels is None or must_be_fitted(self.calibrator)
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags

    def _posteriors(self, X: Any, *, doubt: bool = True) -> LabelPosteriors:
        thresholds, scorer = self._check().thresholds, self.scorer()
        rows, _ = rows_and_candidates(X, None, scorer.fields)
        found = self.posteriors_of(scorer.score(rows, refuse=text_error).scores)
        if doubt:
            n_uncertain = int(found.uncertain(thresholds).any(axis=1).sum())
            doubt_labels_left_out(n_uncertain, len(found.proba))
        return found

    def _known_labels(self) -> LabelSet:
        declared: LabelSet | None = getattr(self, "label_set_", None)
        if self.labels is not None:
            declared = LabelSet.parse(self.labels)
        if declared is None:
            raise NotFittedError(
                "This ZeroShotMultiLabelClassifier has no labels: give `labels=[…]`, "
                "or call fit."
            )
        return declared

    def _check(self) -> CheckedFits:
        """Return the calibration and the thresholds to use, checked once."""
        return checked_fits(self)
