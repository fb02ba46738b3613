"""The result of a fit, as a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from classify.calibration.methods import METHODS
from classify.calibration.rows import FloatArray, RowMap
from classify.parameters import (
    at_least,
    check_parameters,
    instance_of,
    number,
    one_of,
    optional,
)

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
        check_parameters(
            "LabelCalibrator",
            method=(self.method, one_of(*METHODS)),
            bias_init=(self.bias_init, one_of("prior_matching", "zero")),
            l2_log_scale=(self.l2_log_scale, at_least(0)),
            l2_bias=(self.l2_bias, at_least(0)),
            floor=(self.floor, number("at most -1 (nats)", lambda value: value <= -1)),
            cv=(self.cv, at_least(2, whole=True)),
            force=(self.force, instance_of("a boolean", bool)),
            random_state=(
                self.random_state,
                optional(at_least(0, whole=True)),
            ),
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
