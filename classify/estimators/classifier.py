"""The scikit-learn estimator: texts and class names in, label probabilities out."""

import os
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Tags

from classify.calibration import LabelCalibrator
from classify.calibration.rows import FloatArray
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.engines import Engine
from classify.estimators.async_prediction import AsyncPrediction
from classify.estimators.explaining import ExplainsAnswer
from classify.estimators.given_calibrator import (
    checked_calibrator,
    fit_calibrator,
    is_fitted,
)
from classify.estimators.prompt_choice import tune_rows
from classify.estimators.text_classifier import TextClassifier
from classify.labels import Labels, LabelSet
from classify.labels.use import LabelUse
from classify.labels.values import known_labels, labels_of_y
from classify.prompts import PromptTemplate
from classify.questions.kinds import Kind, kind_of
from classify.rows.frames import (
    add_results,
    candidates_of_frame,
    frame_of,
    row_refusal,
    rows_and_candidates,
    rows_of_frame,
)
from classify.rows.prompted_model import Progress, PromptedModel
from classify.rows.results import row_results
from classify.rows.scorer import Scorer, text_error
from classify.scoring import LabelLogprobs
from classify.scoring.doubts import doubt_labels
from classify.spec import Scoring
from classify.tokenizer import Tokenizer
from classify.verbalizer import Verbalizer
from classify.verbalizer.audit import LabelAudit

__all__ = ["ZeroShotClassifier"]


class ZeroShotClassifier(TextClassifier, AsyncPrediction, ExplainsAnswer):
    """Classifies texts by the probability that a language model gives each label text.

    Usable without `fit` when `labels` are given, unless a calibrator has to be fitted.
    Threads may share it. A model that is saved again is loaded again at the next call.

    Parameters
    ----------
    labels : LabelSet, sequence of str, Enum class, or mapping, default=None
        The classes; see `LabelSet.parse`. Where `y` holds numbers,
        ``{0: "negative", 1: "positive"}`` names them. None: learned from `y` in `fit`.
    model : str, default="demo"
        A Hugging Face hub id, a folder or a GGUF file. "demo": a small one, for trials.
    engine : str or Engine, default="auto"
        "transformers", "vllm", "llamacpp" (GGUF), or "server", with its ``url`` in
        `engine_options`. "auto": llama.cpp (GGUF), vLLM on a GPU, or transformers.
    prompt : PromptTemplate or str, default=None
        The prompt; a string is its template. None: the default prompt.
        "auto": chosen in `fit`, on some of its texts, as `classify.tune_prompt` does.
    verbalizer : Verbalizer, default=None
        How label words become token paths.
    strategy : {"exact", "generate", "reason"}, default="exact"
        How the trie is read; "reason" lets the model think first, then is "exact".
    tolerance : float, default=1e-3
        Label mass that may stay unresolved, as a share of the resolved mass; 0: exact.
    max_reasoning_tokens : int, default=512
        For "reason": maximum tokens of a thought. A longer one is cut, and reported.
    n_chains : int, default=1
        For "reason": how many thoughts to average; one is greedy, several are sampled.
    chain_temperature : float, default=0.7
        For several chains: the temperature at which thoughts are sampled.
    chain_seed : int, default=0
        For several chains: the seed of their sampling, the same for every text.
    dtype : str, default="auto"
        Weights' type; "auto": float32 on a CPU, else the checkpoint's.
    device : str, default="auto"
        "cpu", "cuda", …; "auto": a GPU if there is one.
    batch_size : int or "auto", default="auto"
        Texts in one forward pass; with vLLM, requests that run at once.
    revision : str, default=None
        Of a hub model.
    trust_remote_code : bool, default=False
        Whether to run code that comes with the model.
    tokenizer : Tokenizer, default=None
        None: the model's own.
    speculation : str or mapping, default=None
        Speculative decoding, with vLLM; see `classify.engines.speculation`.
    calibrator : str, Path or LabelCalibrator, default=None
        A method's name ("auto", …) or an unfitted `LabelCalibrator` is fitted in `fit`.
        A fitted one, or its file, must have been fitted on this model, prompt, labels
        and strategy. ``clone`` forgets a fit: give the file, or a `FrozenEstimator`.
    kind : {"choice", "ordinal", "tree"}, default="choice"
        "ordinal": labels have numbers; "tree": parents, or names such as ``pet/dog``.
    min_node_probability : float, default=0.8
        For "tree": the minimum probability of the node in the column ``node``.
    tree_scoring : {"paths", "levels"}, default="paths"
        For "tree": one prompt for whole paths, or one for each node with a choice.
    escape : str, default=None
        Words of a further label for texts that fit none, listed in the prompt.
    engine_options : mapping, default=None
        Any other argument of the engine's ``load``, such as ``max_model_len`` or
        ``lora`` for vLLM, ``cache_bytes`` for transformers, ``url`` for a server.

    Attributes
    ----------
    classes_ : ndarray of str, int or bool, shape (n_labels,)
        Label names, or their values in `y`, sorted: the columns of `predict_proba`.
    label_set_ : LabelSet
        The labels in their declared order, which the prompt keeps.
    calibrator_ : LabelCalibrator
        What was fitted or given; with a calibrator only.
    prompt_ : PromptTemplate
        What `fit` chose; with ``prompt="auto"`` only.

    Examples
    --------
    >>> from classify import ZeroShotClassifier
    >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
    >>> clf.predict(["My parcel has not arrived."])
    array(['shipping'], dtype='<U8')
    """

    def __init__(
        self,
        labels: Labels | None = None,
        model: str = "demo",
        *,
        engine: str | Engine = "auto",
        prompt: PromptTemplate | str | None = None,
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
        calibrator: str | os.PathLike[str] | LabelCalibrator | None = None,
        kind: Literal["choice", "ordinal", "tree"] = "choice",
        min_node_probability: float = 0.8,
        tree_scoring: Literal["paths", "levels"] = "paths",
        escape: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.labels = labels
        self.model = model
        self.engine = engine
        self.prompt = prompt
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
        self.kind = kind
        self.min_node_probability = min_node_probability
        self.tree_scoring = tree_scoring
        self.escape = escape
        self.engine_options = engine_options

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn the classes from `y` if none were declared; fit prompt and calibrator.

        Parameters
        ----------
        X : sequence of str
            Texts; scored only where there is a prompt to choose or a calibrator to fit.
        y : sequence of str, int or bool, default=None
            Their labels: names, or numbers that `labels` name, or positions of the
            sorted names, as scikit-learn's meta-estimators pass them; predictions are
            alike. None: a calibrator is fitted without labels.
        sample_weight : array, shape (n_texts,), default=None
            Weights of the texts, for the calibrator.

        Returns
        -------
        self
        """
        declared = None if self.labels is None else LabelUse.of(self).asked(self.labels)
        found, true = labels_of_y(declared, y, 0 if X is None else len(X))
        self.label_set_ = LabelUse.of(self).asked(found) if declared is None else found
        self.__dict__.pop("prompt_", None)
        scorer, template = self.scorer(), self._prompt_template()
        if self.calibrator is None and not template.is_auto:
            return self
        rows, _ = rows_and_candidates(X, None, template.fields)
        if template.is_auto:
            self.prompt_ = tune_rows(scorer, rows, true).best
        if self.calibrator is not None:
            self.calibrator_ = fit_calibrator(
                self.calibrator, self.scorer(), rows, true, sample_weight
            )
        return self

    @property
    def classes_(self) -> npt.NDArray[Any]:
        """Label names, or the values that stand for them, sorted, (n_labels,)."""
        labels = self.scorer().known_labels()
        return np.array(sorted(labels.values or labels.names))

    def predict(self, X: Any, *, labels: Any = None) -> npt.NDArray[Any]:
        """Return the most likely label of each text, shape (n_texts,)."""
        found = self._posteriors(X, labels)
        return np.asarray(found.classes)[found.best]

    def predict_proba(self, X: Any, *, labels: Any = None) -> FloatArray:
        """Return p(label | text), shape (n_texts, n_labels); rows sum to 1.

        Entry (i, l) = p(l | prompt_i) / sum over labels k of p(k | prompt_i), corrected
        by the calibrator; 0 if a label is not a candidate. Columns follow `classes_`.
        """
        return np.exp(self.predict_log_proba(X, labels=labels))

    def predict_log_proba(self, X: Any, *, labels: Any = None) -> FloatArray:
        """Return the natural logarithm of `predict_proba`, (n_texts, n_labels)."""
        return self._posteriors(X, labels).log_proba

    def __sklearn_is_fitted__(self) -> bool:
        if self.calibrator is not None and not is_fitted(self.calibrator):
            return hasattr(self, "calibrator_")
        has_labels = self.labels is not None or hasattr(self, "label_set_")
        return has_labels and not self._prompt_template().is_auto

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        is_fixed = self.calibrator is None or is_fitted(self.calibrator)
        is_auto = PromptTemplate.of(self.prompt).is_auto
        tags.requires_fit = self.labels is None or is_auto or not is_fixed
        return tags

    def label_logprobs(
        self,
        X: Any,
        *,
        labels: Any = None,
        return_steps: bool = False,
        progress: Progress | None = None,
    ) -> LabelLogprobs:
        """Return joint, unnormalised log p(label | prompt) of each text, uncalibrated.

        Parameters
        ----------
        X : sequence of str, Series, array, or DataFrame
            Texts; or rows with the columns that the prompt needs.
        labels : sequence of sequences of str, or str, default=None
            Candidate labels of each text, or the name of the column of `X` with them
            (lists, or ``a|b``); columns stay all classes. None: all labels for all.
        return_steps : bool, default=False
            Keep the per-step values that were read.
        progress : callable, default=None
            Called with the number of texts finished since the last call.

        Returns
        -------
        LabelLogprobs
            Columns are the sorted label names, or all candidates where there are none.

        Raises
        ------
        InputError
            A text is missing or empty, or does not fit; before any model call.
        AnswerError
            The model's answer for a text cannot be used: it is NaN, for example.
        """
        scorer = self.scorer()
        rows, listed = rows_and_candidates(X, labels, scorer.fields)
        return scorer.score(
            *(rows, listed),
            refuse=text_error,
            progress=progress,
            return_steps=return_steps,
            track=return_steps,
        ).scores

    def classify_frame(
        self,
        frame: pd.DataFrame,
        *,
        text_column: str = "text",
        labels_column: str | None = None,
        probabilities: bool = False,
        bounds: bool = False,
        selective: SelectiveClassifier | None = None,
        sets: SplitConformalSets | None = None,
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
        labels_column : str, default=None
            Column with the candidate labels of each row.
        probabilities : bool, default=False
            Add a column ``p(<label>)`` for each class.
        bounds : bool, default=False
            Add ``lower``, ``upper`` and ``certain``; see `LabelLogprobs.bounds`.
        selective : SelectiveClassifier, default=None
            Fitted: leaves out labels, and gives the reason in the column ``abstained``.
        sets : SplitConformalSets, default=None
            Likewise: adds the column ``label_set``, as ``a|b``.
        on_error : {"raise", "set_aside"}, default="raise"
            "set_aside" continues, and gives the reason in the column ``error``.
        progress : callable, default=None
            Called with the number of rows finished since the last call.

        Returns
        -------
        DataFrame
            The input's columns, then ``label``, ``probability``, bounds, the kind's,
            ``abstained``, ``label_set``, ``p(…)``, ``label_mass``, ``unresolved``;
            ``agreement`` (several prompts); ``truncated``; with "reason" ``reasoning``,
            ``cut``, ``standard_error``; and ``error``. Names taken: ``predicted_…``.
        """
        frame = frame_of(frame)
        refuse = row_refusal(frame.index) if on_error == "raise" else None
        self.fitted_calibrator()
        scorer = self.scorer()
        rows = rows_of_frame(frame, scorer.fields, text_column)
        listed = candidates_of_frame(frame, labels_column)
        scored = scorer.score(rows, listed, refuse=refuse, progress=progress)
        results = row_results(
            scorer,
            len(frame),
            scored,
            refuse=refuse,
            posteriors_of=self.posteriors_of,
            selective=selective,
            sets=sets,
            kind=self.question_kind(),
            probabilities=probabilities,
            bounds=bounds,
            reasoning=True,
        )
        scorer.model.warn_of_one_label(results.columns["label"].tolist())
        return add_results(frame, {"": results}, with_errors=on_error == "set_aside")

    def scorer(self) -> Scorer:
        """Return what scores rows: model, labels and strategy; nothing is loaded."""
        return Scorer(self._prompted_model(), self._known_labels(), Scoring.of(self))

    def question_kind(self) -> Kind | None:
        """Return the kind that gives further results; None for "choice"."""
        labels = self._known_labels() if self.labels is None else self.labels
        return kind_of(LabelUse.of(self), labels)

    def audit(self) -> LabelAudit:
        """Return how the label words will be read; loads the tokenizer only."""
        return self._prompted_model().audit(self.scorer().known_labels())

    def load_engine(self) -> Engine:
        """Return what runs the model, loaded if it was not yet."""
        return self._prompted_model().load_engine()

    def _posteriors(self, X: Any, labels: Any) -> Posteriors:
        self.fitted_calibrator()
        return self._posteriors_of(self.label_logprobs(X, labels=labels))

    def _posteriors_of(self, scores: LabelLogprobs) -> Posteriors:
        """Return classes as `y` has them, and a column of log-probabilities of each."""
        found, known = self.posteriors_of(scores), self._known_labels()
        if self.scorer().gives_bounds:
            doubt_labels(found.known(self.tolerance).certain, self.tolerance)
        if known is not None and known.values:
            names = scores.classes.tolist()
            order = [names.index(name) for name in known.values.values()]
            found = Posteriors(found.log_proba[:, order], self.classes_, None)
        if len(scores):
            likeliest = np.asarray(found.classes)[found.best].tolist()
            self._prompted_model().warn_of_one_label(likeliest)
        return found

    def _known_labels(self) -> LabelSet | None:
        own = None if self.labels is None else LabelUse.of(self).asked(self.labels)
        return known_labels(own, getattr(self, "label_set_", None))

    def _prompt_template(self) -> PromptTemplate:
        given = PromptTemplate.of(self.prompt)
        return getattr(self, "prompt_", given) if given.is_auto else given

    def posteriors_of(self, scores: LabelLogprobs) -> Posteriors:
        """Return class probabilities, calibrated if there is a calibrator."""
        return Posteriors.of(scores, self.fitted_calibrator())

    def fitted_calibrator(self) -> LabelCalibrator | None:
        """Return the calibrator to use, checked against what is scored now."""
        return None if self.calibrator is None else checked_calibrator(self)

    def _prompted_model(self) -> PromptedModel:
        return PromptedModel.of(self, self._prompt_template(), Scoring.of(self))
