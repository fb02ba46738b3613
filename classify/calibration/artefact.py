"""Calibrations as readable JSON files: writing and reading.

No code is in it, and nothing in it is run: plain numbers and strings, all checked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from classify.calibration.calibration import Calibration
from classify.calibration.map_json import AnyMapJson, map_json
from classify.errors import DataError

__all__ = [
    "SavedCalibration",
    "artefact_dict",
    "saved_calibration",
]

_FORMAT = "classify calibration 1"

Count = Annotated[StrictInt, Field(ge=0)]


class SavedCalibration(NamedTuple):
    """A calibration, and the parameters of the `LabelCalibrator` that made it."""

    calibration: Calibration
    settings: dict[str, Any]


class _Artefact(BaseModel):
    """The file; its keys are the attributes of `LabelCalibrator`, without ``_``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["classify calibration 1"]
    created: StrictStr
    versions: dict[str, StrictStr]
    fingerprint: dict[str, StrictStr]
    method: StrictStr
    explanation: StrictStr
    metrics: dict[str, dict[str, FiniteFloat]] | None
    n_labels: Count
    n_unlabeled: Count
    n_floored: Count
    weights: dict[str, FiniteFloat] | None
    cv_log_loss: dict[str, FiniteFloat] | None
    classes: list[StrictStr] | list[StrictInt]
    prior: list[FiniteFloat]
    label_shares: list[FiniteFloat] | None
    parameters: AnyMapJson
    settings: dict[str, Any]

    def calibration(self) -> Calibration:
        """Return the calibration, or raise ValueError where lengths do not fit."""
        n_labels = len(self.classes)
        if len(self.prior) != n_labels:
            raise ValueError(f"prior must have {n_labels} entries")
        shares = self.label_shares
        if shares is not None and len(shares) != n_labels:
            raise ValueError(f"label_shares must have {n_labels} entries")
        return Calibration(
            method=self.method,
            classes=np.array(self.classes),
            map=self.parameters.build(n_labels),
            prior=np.array(self.prior),
            label_shares=None if shares is None else np.array(shares),
            weights=self.weights,
            cv_log_loss=self.cv_log_loss,
            n_labels=self.n_labels,
            n_unlabeled=self.n_unlabeled,
            n_floored=self.n_floored,
            metrics=self.metrics,
            explanation=self.explanation,
            fingerprint=self.fingerprint,
            created=self.created,
            versions=self.versions,
        )


def artefact_dict(
    calibration: Calibration, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a calibration as plain numbers and strings, in the order of the file.

    Parameters
    ----------
    calibration : Calibration
    settings : mapping
        The parameters of the `LabelCalibrator`.
    """
    shares = calibration.label_shares
    content = vars(calibration) | {
        "classes": calibration.classes.tolist(),
        "prior": calibration.prior.tolist(),
        "label_shares": None if shares is None else shares.tolist(),
        "parameters": map_json(calibration.map).model_dump(),
        "settings": _plain(settings, calibration),
    }
    return {"format": _FORMAT} | {
        key: content[key] for key in _Artefact.model_fields if key != "format"
    }


def saved_calibration(content: Any, shown: str) -> SavedCalibration:
    """Check what `artefact_dict` returned, come back from a file.

    Parameters
    ----------
    content : object
        From JSON.
    shown : str
        The file, as errors name it.

    Raises
    ------
    DataError
        It is no calibration; the sentence names the key.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise DataError(
            f"{shown!r} is not a calibration that this version can read: its format "
            f"must be {_FORMAT!r}, and is {found!r}. Give a file that "
            "LabelCalibrator.save wrote."
        )
    try:
        artefact = _Artefact.model_validate(content)
        return SavedCalibration(artefact.calibration(), artefact.settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}"
    except ValueError as error:
        reason = str(error)
    raise DataError(
        f"The calibration {shown!r} is damaged. {reason}. Fit and save it again."
    )


def _plain(settings: Mapping[str, Any], calibration: Calibration) -> dict[str, Any]:
    """Return parameters as JSON has them: a prior by its shares, in column order."""
    plain = dict(settings)
    if not isinstance(plain["prior"], str):
        plain["prior"] = calibration.prior.tolist()
    if plain["classes"] is not None:
        plain["classes"] = np.asarray(plain["classes"]).tolist()
    return plain
