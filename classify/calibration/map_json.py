"""Fitted maps as JSON, and back: plain numbers, checked one by one."""

from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt

from classify.calibration.by_count import CountTemperature
from classify.calibration.matrix import Matrix
from classify.calibration.mixture import Mixture
from classify.calibration.rows import RowMap
from classify.calibration.scaling import Affine, Isotonic

__all__ = ["AnyMapJson", "map_json"]

Row: TypeAlias = list[FiniteFloat]


class _Json(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_lengths(what: str, n: int, *rows: list[float]) -> None:
    if any(len(row) != n for row in rows):
        lengths = ", ".join(str(len(row)) for row in rows)
        raise ValueError(f"{what} must have {n} entries each, got {lengths}")


class AffineJson(_Json):
    """`Affine` as JSON."""

    kind: Literal["affine"] = "affine"
    scale: list[Annotated[FiniteFloat, Field(gt=0)]]
    bias: Row

    def build(self, n_labels: int) -> Affine:
        """Return the map, or raise ValueError where lengths do not fit."""
        _check_lengths("scale and bias", n_labels, self.scale, self.bias)
        return Affine(np.array(self.scale), np.array(self.bias))


class MatrixJson(_Json):
    """`Matrix` as JSON."""

    kind: Literal["matrix"] = "matrix"
    columns: list[Annotated[StrictInt, Field(ge=0)]]
    coef: list[Row]
    intercept: Row
    floor: FiniteFloat
    rest: AffineJson

    def build(self, n_labels: int) -> Matrix:
        """Return the map, or raise ValueError where lengths do not fit."""
        if sorted(set(self.columns)) != self.columns or max(self.columns) >= n_labels:
            raise ValueError(f"columns must be numbers below {n_labels}, ascending")
        _check_lengths("the rows of coef", n_labels, *self.coef)
        if not len(self.coef) == len(self.intercept) == len(self.columns):
            raise ValueError("coef and intercept must have a row for each of columns")
        return Matrix(
            np.array(self.columns, dtype=np.int64),
            np.array(self.coef),
            np.array(self.intercept),
            self.floor,
            self.rest.build(n_labels),
        )


class IsotonicJson(_Json):
    """`Isotonic` as JSON."""

    kind: Literal["isotonic"] = "isotonic"
    thresholds: list[Row]
    values: list[list[Annotated[FiniteFloat, Field(gt=0, le=1)]]]
    floor: FiniteFloat

    def build(self, n_labels: int) -> Isotonic:
        """Return the map, or raise ValueError where lengths do not fit."""
        if not len(self.thresholds) == len(self.values) == n_labels:
            raise ValueError(f"thresholds and values must be {n_labels} lists each")
        for thresholds, values in zip(self.thresholds, self.values, strict=True):
            _check_lengths("values", max(1, len(thresholds)), values)
        return Isotonic(
            tuple(np.array(row) for row in self.thresholds),
            tuple(np.array(row) for row in self.values),
            self.floor,
        )


class MixtureJson(_Json):
    """`Mixture` as JSON."""

    kind: Literal["mixture"] = "mixture"
    log_weights: Row
    parts: list[Annotated[AffineJson | MatrixJson, Field(discriminator="kind")]]

    def build(self, n_labels: int) -> Mixture:
        """Return the map, or raise ValueError where lengths do not fit."""
        _check_lengths("log_weights", max(1, len(self.parts)), self.log_weights)
        parts = tuple(part.build(n_labels) for part in self.parts)
        return Mixture(np.array(self.log_weights), parts)


class CountTemperatureJson(_Json):
    """`CountTemperature` as JSON."""

    kind: Literal["temperature_by_count"] = "temperature_by_count"
    intercept: FiniteFloat
    slope: FiniteFloat

    def build(self, n_labels: int) -> CountTemperature:
        """Return the map."""
        return CountTemperature(self.intercept, self.slope)


_MapJson: TypeAlias = (
    AffineJson | MatrixJson | IsotonicJson | MixtureJson | CountTemperatureJson
)
AnyMapJson: TypeAlias = Annotated[_MapJson, Field(discriminator="kind")]


def map_json(fitted: RowMap) -> _MapJson:
    """Return what a fitted map is written as.

    Examples
    --------
    >>> map_json(Affine(np.ones(2), np.array([-0.5, 0.5])))
    AffineJson(kind='affine', scale=[1.0, 1.0], bias=[-0.5, 0.5])
    """
    match fitted:
        case Affine(scale=scale, bias=bias):
            return AffineJson(scale=scale.tolist(), bias=bias.tolist())
        case CountTemperature(intercept=intercept, slope=slope):
            return CountTemperatureJson(intercept=intercept, slope=slope)
        case Matrix():
            return MatrixJson(
                columns=fitted.columns.tolist(),
                coef=fitted.coef.tolist(),
                intercept=fitted.intercept.tolist(),
                floor=fitted.floor,
                rest=AffineJson(
                    scale=fitted.rest.scale.tolist(), bias=fitted.rest.bias.tolist()
                ),
            )
        case Isotonic():
            return IsotonicJson(
                thresholds=[row.tolist() for row in fitted.thresholds],
                values=[row.tolist() for row in fitted.values],
                floor=fitted.floor,
            )
        case Mixture():
            return MixtureJson(
                log_weights=fitted.log_weights.tolist(),
                parts=[map_json(part).model_dump() for part in fitted.parts],  # type: ignore[misc]
            )
    raise TypeError(f"{fitted!r} is none of the maps of this package")
