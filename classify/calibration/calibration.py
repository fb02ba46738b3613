"""What a fit leaves behind, as a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from classify.calibration.methods import METHODS
from classify.calibration.rows import FloatArray, RowMap
from classify.errors import ConfigError

__all__ = ["Calibration", "Options"]


@dataclass(frozen=True)
class Options:
    """The parameters of `LabelCalibrator`, checked.

    Raises
    ------
    ConfigError
        One has a value that is not allowed.
    """

    method: str
    prior: str | Mapping[Any, float] | Sequence[float]
    classes: Sequence[Any] | None
    l2_log_scale: float
    l2_bias: float
    bias_init: str
    cv: int
    floor: float
    force: bool
    random_state: int | None

    def __post_init__(self) -> None:
        _check_choice("method", self.method, METHODS)
        _check_choice("bias_init", self.bias_init, ("prior_matching", "zero"))
        _check_number("l2_log_scale", self.l2_log_scale, "at least 0", 0.0, None)
        _check_number("l2_bias", self.l2_bias, "at least 0", 0.0, None)
        _check_number("floor", self.floor, "at most -1 (nats)", None, -1.0)
        _check_number("cv", self.cv, "at least 2", 2, None)
        if self.random_state is not None:
            _check_number("random_state", self.random_state, "at least 0", 0, None)


def _check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"The {name!r} parameter of LabelCalibrator must be one of "
            f"{', '.join(map(repr, allowed))}. Got {value!r} instead."
        )


def _check_number(
    name: str, value: Any, bounds: str, least: float | None, most: float | None
) -> None:
    whole = isinstance(least, int)
    is_number = isinstance(value, int if whole else int | float)
    if (
        isinstance(value, bool)
        or not is_number
        or not abs(value) < float("inf")
        or (least is not None and value < least)
        or (most is not None and value > most)
    ):
        raise ConfigError(
            f"The {name!r} parameter of LabelCalibrator must be "
            f"{'a whole number' if whole else 'a number'}, {bounds}. Got {value!r} "
            "instead."
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibration: the attributes of `LabelCalibrator`, without ``_``.

    `map` is what is applied to normalised log-probabilities.
    """

    method: str
    classes: npt.NDArray[Any]
    map: RowMap
    prior: FloatArray
    label_shares: FloatArray | None
    weights: dict[str, float] | None
    cv_log_loss: dict[str, float] | None
    n_labels: int
    n_unlabeled: int
    n_floored: int
    metrics: dict[str, dict[str, float]] | None
    explanation: str
    fingerprint: dict[str, str]
    created: str
    versions: dict[str, str]
