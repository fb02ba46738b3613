"""`LabelCalibrator`: label log-probabilities in, calibrated ones out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from classify.calibration.artefact import artefact_dict, saved_calibration
from classify.calibration.calibration import Calibration, Options
from classify.calibration.checks import as_logprobs
from classify.calibration.fitting import fit_calibration
from classify.calibration.methods import BY_COUNT, required_tolerance
from classify.calibration.rows import FloatArray, normalised
from classify.calibration.scaling import Affine
from classify.files.json import read_json, write_json
from classify.scoring import LabelBounds, LabelLogprobs
from classify.scoring.fingerprint import Fingerprint, check_fingerprint

__all__ = ["LabelCalibrator"]


class LabelCalibrator(ClassifierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Corrects the label log-probabilities of a language model.

    Nearly every method predicts softmax(a (s + b)), with s the normalised
    log-probabilities. A *shift* b removes the model's preference for some labels
    regardless of the text, and needs no labels; it improves accuracy. A *scale* a = 1 /
    T corrects confidence, and needs labels.

    Parameters
    ----------
    method : str, default="auto"
        ``"auto"`` mixes none, temperature, prior matching with a temperature, affine
        with two priors and, from 200 labels and 10 a class on, matrix, weighed by
        cross-validated log loss (`mixture`); without labels it is prior matching.

        Without labels: ``"prior_matching"`` (`prior_matching_shift`), ``"batch"``,
        ``"content_free"``, ``"domain"``, ``"pmi"`` (`batch_shift`,
        `content_free_shift`, `domain_shift`, `pmi_shift`; the last three need
        ``probes``). With labels: ``"temperature"``, ``"bias"``, ``"affine"``,
        ``"vector"``, ``"matrix"``, ``"isotonic"`` (the functions of these names);
        ``"temperature_by_count"``, T(n) = a + b ln n for a text with n candidates,
        the only one that can be used with any labels. ``"none"`` only normalises.
    prior : {"uniform", "labels"}, mapping, or sequence of float, default="uniform"
        The share that each label should have where texts like those of `fit` come
        from; for shifts. "labels": its share in `y`. A share of 0 counts as 1e-6.
    classes : sequence of str or int, default=None
        The labels of the columns, for arrays; `LabelLogprobs` bring theirs. None: the
        sorted values of `y` if there is one for each column, else column numbers.
    l2_log_scale, l2_bias : float, default=1.0
        Precisions of the normal priors of log a, around 0, and b, around b0.
    bias_init : {"prior_matching", "zero"}, default="prior_matching"
        What b0 is, for "bias", "affine" and "vector".
    cv : int, default=5
        Folds of cross-validation; fewer where there are fewer labelled texts.
    floor : float, default=-30.0
        In nats: a true label of probability 0 costs so much, and counts as so far
        below the least of its row in a fit; "batch", probes, "matrix" and "isotonic"
        raise log-probabilities to so far below their row's greatest.
    force : bool, default=False
        Fit "isotonic" to fewer than 1,000 labels.
    random_state : int or None, default=None
        Seed of the order in which texts are dealt into folds. None: in their order.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
        The label of each column.
    method_ : str
        What was done: `method`, unless that was "auto" without labels or the labels
        did not allow it.
    scale_ : float, ndarray of shape (n_labels,), or None
        a; None for "auto", "matrix", "isotonic" and "temperature_by_count".
    temperature_ : float, ndarray of shape (n_labels,), or None
        1 / a.
    bias_ : ndarray of shape (n_labels,) or None
        b in nats, of mean 0.
    prior_ : ndarray of shape (n_labels,)
    weights_, cv_log_loss_ : dict of str to float, or None
        Of "auto": weight and mean cross-validated log loss of each candidate.
    label_shares_ : ndarray of shape (n_labels,) or None
        Share of each label in `y`.
    n_features_in_, n_labels_, n_unlabeled_, n_floored_ : int
        Columns; labelled texts; texts that shifts were found on; true labels of
        probability 0.
    metrics_ : dict or None
        ``{"before": …, "after": …}`` with ``log_loss``, ``brier``, ``accuracy`` and
        ``ece`` on the labelled texts; "after" is cross-fitted: no text is judged by a
        fit that has seen its label.
    explanation_ : str
        What was done and why, in words.
    fingerprint_ : dict of str to str
        What was scored with what; see `fingerprint_of`.
    created_, versions_ : str, dict of str to str
        When it was fitted, and with which versions.

    Notes
    -----
    -inf stays -inf: a label that is not a candidate for a text has probability 0 before
    and after. What is fitted is frozen: a text gets the same probabilities whatever
    the other texts are.

    Examples
    --------
    >>> s = np.log([[0.95, 0.05], [0.8, 0.2], [0.99, 0.01], [0.7, 0.3]])
    >>> calibrator = LabelCalibrator(classes=["good", "bad"]).fit(s)
    >>> calibrator.method_, calibrator.predict(s).tolist()
    ('prior_matching', ['good', 'bad', 'good', 'bad'])
    """

    def __init__(
        self,
        method: str = "auto",
        prior: str | Mapping[Any, float] | Sequence[float] = "uniform",
        *,
        classes: Sequence[str] | Sequence[int] | None = None,
        l2_log_scale: float = 1.0,
        l2_bias: float = 1.0,
        bias_init: Literal["prior_matching", "zero"] = "prior_matching",
        cv: int = 5,
        floor: float = -30.0,
        force: bool = False,
        random_state: int | None = None,
    ) -> None:
        self.method = method
        self.prior = prior
        self.classes = classes
        self.l2_log_scale = l2_log_scale
        self.l2_bias = l2_bias
        self.bias_init = bias_init
        self.cv = cv
        self.floor = floor
        self.force = force
        self.random_state = random_state

    def fit(
        self,
        label_logprobs: Any,
        y: Any = None,
        *,
        X_unlabeled: Any = None,
        probes: Any = None,
        sample_weight: Any = None,
        fingerprint: Fingerprint | None = None,
    ) -> Self:
        """Learn how to calibrate.

        Parameters
        ----------
        label_logprobs : LabelLogprobs or array, shape (n_texts, n_labels)
            log p(label | prompt), normalised or not, in nats.
        y : sequence of str or int, length n_texts, default=None
            True labels; some of the classes may be absent.
        X_unlabeled : LabelLogprobs or array, shape (n_more, n_labels), default=None
            Further texts of the same source. Shifts are found on these and on
            `label_logprobs` together, labels or not.
        probes : LabelLogprobs or array, shape (n_probes, n_labels), default=None
            The scores of `classify.prompts.probes`, for methods that need them.
        sample_weight : array, shape (n_texts,), default=None
            Weights of the texts of `label_logprobs`.
        fingerprint : mapping of str to str, default=None
            What the texts were scored with, kept in `fingerprint_`.

        Returns
        -------
        self

        Raises
        ------
        InputError
            An option, an array, a label or a weight cannot be used; the sentence says
            which, and what to do.
        """
        options = Options(**self.get_params())
        fitted = fit_calibration(
            options,
            label_logprobs,
            y,
            X_unlabeled=X_unlabeled,
            probes=probes,
            sample_weight=sample_weight,
            fingerprint=fingerprint,
        )
        self._keep(fitted)
        return self

    def transform(self, label_logprobs: Any) -> FloatArray:
        """Return calibrated log p(label | text), shape (n_texts, n_labels).

        `label_logprobs` is what `fit` took: scores of the same labels, or of any after
        ``"temperature_by_count"``.
        """
        check_is_fitted(self)
        known = None if self.method_ == BY_COUNT else self.classes_
        values = as_logprobs(label_logprobs, what="label_logprobs", classes=known)
        return self._calibration.map.transform(normalised(values))

    def bounds(self, label_logprobs: LabelLogprobs) -> LabelBounds:
        """Return bounds of calibrated probabilities.

        ``bounds(…).log_proba()`` are bounds of what `transform` returns, if the
        scores are only known within bounds; see `LabelLogprobs.bounds`.

        Examples
        --------
        >>> from classify.scoring import LabelLogprobs
        >>> lower, upper = np.log([[0.6, 0.1]]), np.log([[0.6, 0.3]])
        >>> scores = LabelLogprobs(
        ...     upper, np.array(["ham", "spam"]), lower, upper, np.array([0.2]),
        ...     np.array([False]), np.array([1]),
        ... )
        >>> calibrator = LabelCalibrator("none", classes=["ham", "spam"]).fit(upper)
        >>> np.exp(calibrator.bounds(scores).log_proba().lower).round(3).tolist()
        [[0.667, 0.143]]
        """
        check_is_fitted(self)
        known = None if self.method_ == BY_COUNT else self.classes_
        as_logprobs(label_logprobs, what="label_logprobs", classes=known)
        return self._calibration.map.bounds(label_logprobs.bounds)

    def predict_log_proba(self, label_logprobs: Any) -> FloatArray:
        """Return calibrated log p(label | text), shape (n_texts, n_labels)."""
        return self.transform(label_logprobs)

    def predict_proba(self, label_logprobs: Any) -> FloatArray:
        """Return calibrated p(label | text), shape (n_texts, n_labels)."""
        return np.exp(self.transform(label_logprobs))

    def predict(self, label_logprobs: Any) -> npt.NDArray[Any]:
        """Return the most likely label of each text, shape (n_texts,)."""
        check_is_fitted(self)
        classes = self.classes_
        if self.method_ == BY_COUNT and isinstance(label_logprobs, LabelLogprobs):
            classes = label_logprobs.classes
        values = as_logprobs(label_logprobs, what="label_logprobs", classes=classes)
        return np.asarray(classes[self.transform(values).argmax(axis=1)])

    @property
    def required_tolerance_(self) -> float:
        """Tolerance at which texts must be scored; see `required_tolerance`."""
        check_is_fitted(self)
        return required_tolerance(self.method_, len(self.classes_))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration as JSON, complete or not at all.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        write_json(path, self.to_dict())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        fingerprint: Fingerprint | None = None,
        force: bool = False,
    ) -> Self:
        """Read a calibration that `save` wrote.

        Parameters
        ----------
        path : str or Path
        fingerprint : mapping of str to str, default=None
            What texts will be scored with; see `fingerprint_of`. None: not compared.
        force : bool, default=False
            Accept it even if it was fitted on something else; see `checked_for`.

        Raises
        ------
        DataError
            The file is missing, or is not a calibration.
        ConfigError
            It was fitted on something else; the sentence names what differs.
        """
        content = read_json(path, writer="LabelCalibrator.save")
        calibrator = cls.from_dict(content, os.fspath(path))
        if fingerprint is None:
            return calibrator
        what = f"The calibration {os.fspath(path)!r}"
        return calibrator.checked_for(fingerprint, what=what, force=force)

    def checked_for(
        self, fingerprint: Fingerprint, *, what: str, force: bool = False
    ) -> Self:
        """Return this calibration, if it was fitted on the given fingerprint.

        Parameters
        ----------
        fingerprint : mapping of str to str
            What texts will be scored with; see `fingerprint_of`.
        what : str
            Names the calibration in an error.
        force : bool, default=False
            Return a copy that counts as fitted on `fingerprint`, whatever it was fitted
            on.

        Raises
        ------
        ConfigError
            It was fitted on something else; the sentence names what differs.
        """
        check_is_fitted(self)
        check_fingerprint(self.fingerprint_, fingerprint, what=what, force=force)
        if self.fingerprint_ == fingerprint:
            return self
        made = type(self)(**self.get_params())
        made._keep(replace(self._calibration, fingerprint=dict(fingerprint)))
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return what `save` writes, for a file that also has other contents."""
        check_is_fitted(self)
        return artefact_dict(self._calibration, self.get_params())

    @classmethod
    def from_dict(cls, content: Any, shown: str) -> Self:
        """Return a calibrator from what `to_dict` returned; errors name `shown`.

        Raises
        ------
        DataError
            It is not a calibration.
        """
        fitted, settings = saved_calibration(content, shown)
        calibrator = cls(**settings)
        calibrator._keep(fitted)
        return calibrator

    def _keep(self, fitted: Calibration) -> None:
        self._calibration = fitted
        self.classes_ = fitted.classes
        self.n_features_in_ = len(fitted.classes)
        self.method_ = fitted.method
        self.prior_ = fitted.prior
        self.label_shares_ = fitted.label_shares
        self.weights_ = fitted.weights
        self.cv_log_loss_ = fitted.cv_log_loss
        self.n_labels_ = fitted.n_labels
        self.n_unlabeled_ = fitted.n_unlabeled
        self.n_floored_ = fitted.n_floored
        self.metrics_ = fitted.metrics
        self.explanation_ = fitted.explanation
        self.fingerprint_ = fitted.fingerprint
        self.created_ = fitted.created
        self.versions_ = fitted.versions
        self.bias_: FloatArray | None = None
        self.scale_: float | FloatArray | None = None
        self.temperature_: float | FloatArray | None = None
        if isinstance(fitted.map, Affine):
            scale = fitted.map.scale
            self.bias_ = fitted.map.bias
            self.scale_ = scale if fitted.method == "vector" else float(scale[0])
            self.temperature_ = 1.0 / self.scale_
