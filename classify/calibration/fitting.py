"""Fitting a calibration: choice of the method, data, and quality of the fit."""

import platform
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.calibration.by_count import CountTemperature
from classify.calibration.calibration import Calibration, Options
from classify.calibration.checks import (
    CalibrationWarning,
    as_logprobs,
    checked_weights,
    class_names,
    codes_of,
    target_prior,
    warn_of_bounds,
)
from classify.calibration.cross_fitting import Folds, folds_of, held_out, quality_of
from classify.calibration.labelled import LabelledTexts
from classify.calibration.methods import (
    LABELLED_METHODS,
    PROBE_METHODS,
    SHIFT_METHODS,
    Setting,
    candidates,
    fit_of,
    min_matrix_labels,
)
from classify.calibration.mixture import Weighed, mixture
from classify.calibration.rows import FloatArray, RowMap, normalised
from classify.calibration.scaling import MIN_ISOTONIC_LABELS, Penalty
from classify.distribution import VERSION
from classify.errors import ConfigError, DataError
from classify.scoring.fingerprint import Fingerprint
from classify.wording import parameter

__all__ = ["fit_calibration"]

# Below, calibration with labels was seen to lose to doing nothing.
_FEW_LABELS = 10
# Shares of predicted labels say little of fewer texts. They are far from a prior where
# they differ by more than this, in total variation, beyond what chance explains.
_TELLING_TEXTS = 50
_FAR = 0.25
_PACKAGES = ("numpy", "scipy", "scikit-learn")


class _Data(NamedTuple):
    """What was passed to fit, checked."""

    classes: npt.NDArray[Any]
    log_proba: FloatArray
    weights: FloatArray
    texts: LabelledTexts | None
    unlabelled: FloatArray
    probes: FloatArray | None


class _Fitted(NamedTuple):
    """A map, predictions that saw no label of their own, and `auto`'s weighing."""

    map: RowMap
    held_out: FloatArray | None
    explanation: str
    weights: dict[str, float] | None = None
    log_loss: dict[str, float] | None = None


def fit_calibration(
    options: Options,
    label_logprobs: Any,
    y: Any,
    *,
    X_unlabeled: Any,
    probes: Any,
    sample_weight: Any,
    fingerprint: Fingerprint | None,
) -> Calibration:
    """Fit a calibration; see `LabelCalibrator.fit`."""
    data = _read(options, label_logprobs, y, X_unlabeled, probes, sample_weight)
    method, reason = _method(options, data)
    texts = data.texts
    setting = _setting(options, data, is_fallback=bool(reason))
    if method in SHIFT_METHODS or method == "none":
        fitted = _fit_shift(method, setting, texts, options)
    else:
        assert texts is not None, "checked by _method"
        fitted = _fit_labelled(method, setting, texts, options)
    if method == "prior_matching":
        _warn_of_matching(setting, texts, data.classes)
    metrics = None
    if texts is not None and fitted.held_out is not None:
        metrics = {
            "before": quality_of(texts, texts.log_proba),
            "after": quality_of(texts, fitted.held_out),
        }
    return Calibration(
        method=method,
        classes=data.classes,
        map=fitted.map,
        prior=setting.prior(texts),
        label_shares=None if texts is None else texts.shares,
        weights=fitted.weights,
        cv_log_loss=fitted.log_loss,
        n_labels=0 if texts is None else len(texts),
        n_unlabeled=len(setting.pool),
        n_floored=0 if texts is None else texts.n_raised,
        metrics=metrics,
        explanation=" ".join(filter(None, [reason, fitted.explanation])),
        fingerprint=dict(fingerprint or {}),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), "classify": VERSION}
        | {name: version(name) for name in _PACKAGES},
    )


def _read(
    options: Options,
    label_logprobs: Any,
    y: Any,
    X_unlabeled: Any,
    probes: Any,
    sample_weight: Any,
) -> _Data:
    joint = as_logprobs(label_logprobs, what="label_logprobs")
    warn_of_bounds(label_logprobs, "The calibration", stacklevel=4)
    if not len(joint):
        raise DataError("There are no texts to calibrate on: pass at least one.")
    classes = class_names(label_logprobs, options.classes, y, joint.shape[1])
    weights = checked_weights(sample_weight, len(joint))
    log_proba = normalised(joint)
    unlabelled = np.empty((0, len(classes)))
    if X_unlabeled is not None:
        more = as_logprobs(X_unlabeled, what="X_unlabeled", classes=classes)
        unlabelled = normalised(more)
    if probes is not None:
        probes = as_logprobs(probes, what="probes", classes=classes)
    texts = None
    if y is not None:
        codes = codes_of(y, classes, len(joint))
        texts = LabelledTexts(log_proba, codes, weights, options.floor)[weights > 0]
    return _Data(classes, log_proba, weights, texts, unlabelled, probes)


def _setting(options: Options, data: _Data, *, is_fallback: bool) -> Setting:
    pool = np.concatenate([data.log_proba, data.unlabelled])
    pool_weights = np.concatenate([data.weights, np.ones(len(data.unlabelled))])
    if is_fallback and len(data.unlabelled):
        # The labelled texts are all of one class, and would match it to the prior.
        pool, pool_weights = data.unlabelled, np.ones(len(data.unlabelled))

    def prior(texts: LabelledTexts | None) -> FloatArray:
        shares = None if texts is None else texts.shares
        return target_prior(options.prior, data.classes, shares)

    prior(data.texts)  # refused here rather than after cross-validation
    return Setting(
        pool=pool,
        pool_weights=pool_weights,
        prior=prior,
        probes=data.probes,
        floor=options.floor,
        penalty=Penalty(options.l2_log_scale, options.l2_bias),
        bias_init=options.bias_init,
    )


def _method(options: Options, data: _Data) -> tuple[str, str]:
    """Return the method that the data allow, and why it is another than asked for."""
    method, texts = options.method, data.texts
    if method in PROBE_METHODS and data.probes is None:
        raise ConfigError(
            f"{parameter('method', method)} needs the scores of probe texts: make "
            "them with classify.prompts.probes, score them like any text, and give "
            f"{parameter('probes')}."
        )
    if texts is None:
        if method in LABELLED_METHODS:
            raise ConfigError(
                f"{parameter('method', method)} needs labelled texts: give "
                f"{parameter('y')}, or use {parameter('method', 'prior_matching')}, "
                "which needs none."
            )
        return ("prior_matching" if method == "auto" else method), ""
    if method != "auto" and method not in LABELLED_METHODS:
        return method, ""
    if len(texts.present) == 1:
        return _without_contrast(method, data, texts)
    _check_number_of_labels(method, len(texts), options)
    return method, ""


def _without_contrast(
    method: str, data: _Data, texts: LabelledTexts
) -> tuple[str, str]:
    """Fall back from labels that are all the same, and warn."""
    only = data.classes[texts.present[0]].item()
    if method != "temperature" and len(data.unlabelled):
        chosen = "prior_matching"
        done = f"prior matching on the {len(data.unlabelled)} unlabelled texts"
    else:
        chosen, done = "none", "log-probabilities that are only normalised"
    reason = (
        f"All {len(texts)} labels are {only!r}, which say nothing about the "
        f"other {len(data.classes) - 1}: {method!r} falls back to {done}."
    )
    advice = (
        "Label texts of other classes too, or give unlabelled ones: "
        f"{parameter('X_unlabeled')}."
    )
    warnings.warn(f"{reason} {advice}", CalibrationWarning, stacklevel=5)
    return chosen, reason


def _check_number_of_labels(method: str, n: int, options: Options) -> None:
    if method == "isotonic" and n < MIN_ISOTONIC_LABELS and not options.force:
        raise DataError(
            f"{parameter('method', 'isotonic')} needs at least "
            f"{MIN_ISOTONIC_LABELS:,} labels: with fewer its log loss explodes. Got "
            f"{n:,}: use {parameter('method', 'auto')}, or "
            f"{parameter('force', True)} to fit it anyway."
        )
    if n < _FEW_LABELS:
        warnings.warn(
            f"There are only {n} labels: below {_FEW_LABELS} a calibration can be "
            f"worse than none, and its cross-validation has {min(options.cv, n)} "
            "folds. Label more texts, 50 if possible, or use "
            f"{parameter('method', 'prior_matching')}, which needs none.",
            CalibrationWarning,
            stacklevel=5,
        )
    elif n < options.cv:
        warnings.warn(
            f"cv={options.cv} folds are more than there are labels ({n}): {n} folds "
            "are taken. Lower cv, or label more texts.",
            CalibrationWarning,
            stacklevel=5,
        )


def _fit_shift(
    method: str, setting: Setting, texts: LabelledTexts | None, options: Options
) -> _Fitted:
    if method == "none":
        explanation = "Log-probabilities are normalised, and not changed."
    else:
        n, what = len(setting.pool), "texts"
        if method in PROBE_METHODS:
            assert setting.probes is not None, "checked by _method"
            n, what = len(setting.probes), "probes"
        explanation = f"{method} shifts by what it found on {n} {what}, without labels."
    fitted = setting.shift_map(method, texts)
    if texts is None:
        return _Fitted(fitted, None, explanation)
    predicted = fitted.transform(texts.log_proba)
    if options.prior == "labels" and len(texts) > 1:
        fit = fit_of(method, setting)
        predicted = held_out(fit, texts, _folds(texts, options))
    return _Fitted(fitted, predicted, explanation)


def _fit_labelled(
    method: str, setting: Setting, texts: LabelledTexts, options: Options
) -> _Fitted:
    folds = _folds(texts, options)
    if method != "auto":
        fit = fit_of(method, setting)
        fitted = fit(texts)
        explanation = f"{method} was fitted to {len(texts)} labels."
        if isinstance(fitted, CountTemperature):
            explanation += _temperatures(fitted, texts)
        return _Fitted(fitted, held_out(fit, texts, folds), explanation)
    weighed = mixture(candidates(setting, len(texts)), texts, folds)
    return _Fitted(
        weighed.mixture,
        weighed.held_out,
        _explained(weighed, texts, len(folds)),
        weighed.weights,
        weighed.log_loss,
    )


def _temperatures(fitted: CountTemperature, texts: LabelledTexts) -> str:
    counts = np.isfinite(texts.log_proba).sum(axis=1)
    return (
        f" The temperature is {fitted.intercept:.3g} + {fitted.slope:.3g} ln n, where "
        f"n, the number of a text's candidates, was {counts.min()} to {counts.max()}."
    )


def _folds(texts: LabelledTexts, options: Options) -> Folds:
    return folds_of(
        texts.codes,
        n_folds=min(options.cv, len(texts)),
        random_state=options.random_state,
    )


def _explained(weighed: Weighed, texts: LabelledTexts, n_folds: int) -> str:
    weights, log_loss = weighed.weights, weighed.log_loss
    ordered = sorted(weights, key=lambda name: -weights[name])
    shown = ", ".join(
        f"{name} {weights[name]:.2f} ({log_loss[name]:.3f})" for name in ordered
    )
    sentence = (
        f"auto mixes {len(weights)} candidates by how well they predicted {len(texts)} "
        f"labels in {n_folds}-fold cross-validation; weight, and mean log loss in "
        f"nats: {shown}."
    )
    needed = min_matrix_labels(texts.n_labels)
    if len(texts) < needed:
        sentence += f" matrix was left out: it needs {needed:,} labels."
    return sentence


def _warn_of_matching(
    setting: Setting, texts: LabelledTexts | None, classes: npt.NDArray[Any]
) -> None:
    matched = setting.matched(texts)
    if matched.gap > 1e-8:
        warnings.warn(
            f"Prior matching stopped after {matched.n_steps} steps, with mean "
            f"probabilities up to {matched.gap:.2g} from the prior: the scores leave "
            "hardly any doubt in any text. Pass more texts.",
            CalibrationWarning,
            stacklevel=4,
        )
    best = setting.pool.argmax(axis=1)
    counts = np.bincount(best, setting.pool_weights, minlength=len(classes))
    shares, prior = counts / counts.sum(), setting.prior(texts)
    n = len(setting.pool)
    # Shares of n draws from K even classes differ by about so much from them.
    by_chance = 0.4 * np.sqrt(len(classes) / n)
    if n >= _TELLING_TEXTS and np.abs(shares - prior).sum() / 2 > _FAR + by_chance:
        most = np.argsort(prior - shares, kind="stable")[:3]
        shown = ", ".join(
            f"{classes[at].item()!r} {shares[at]:.0%} (prior {prior[at]:.0%})"
            for at in most
        )
        warnings.warn(
            f"The shares of the labels that the model itself predicts for {n} texts "
            f"are far from the prior: {shown}. Prior matching treats this as a "
            "bias of the model. If the texts really have these shares, it does harm: "
            f"give the shares as {parameter('prior')}, or label some texts.",
            CalibrationWarning,
            stacklevel=4,
        )
