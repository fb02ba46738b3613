"""Scoring texts without blocking an event loop, for async web services."""

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Posteriors
from classify.rows.frames import rows_and_candidates
from classify.rows.scorer import Scorer, text_error
from classify.scoring import LabelLogprobs

__all__ = ["AsyncPrediction"]


class AsyncPrediction:
    """The methods of a classifier that are awaited.

    The model computes in a thread of its own, and texts of calls that are awaited at
    the same time are scored together. A call that is cancelled drops the texts that
    have not begun.
    """

    async def alabel_logprobs(self, X: Any, *, labels: Any = None) -> LabelLogprobs:
        """Await `label_logprobs`.

        Examples
        --------
        >>> import asyncio
        >>> from classify import ZeroShotClassifier
        >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
        >>> scores = asyncio.run(clf.alabel_logprobs(["Where is my parcel?"]))
        >>> scores.values.shape
        (1, 2)
        """
        scorer = self.scorer()
        rows, listed = rows_and_candidates(X, labels, scorer.fields)
        scored = await scorer.ascore(rows, listed, refuse=text_error)
        return scored.scores

    async def apredict(self, X: Any, *, labels: Any = None) -> npt.NDArray[Any]:
        """Await `predict`."""
        found = await self._aposteriors(X, labels)
        return np.asarray(found.classes)[found.best]

    async def apredict_proba(
        self, X: Any, *, labels: Any = None
    ) -> npt.NDArray[np.float64]:
        """Await `predict_proba`."""
        return np.exp((await self._aposteriors(X, labels)).log_proba)

    async def _aposteriors(self, X: Any, labels: Any) -> Posteriors:
        # To compare a calibration with the model reads the model's files.
        await asyncio.to_thread(self.fitted_calibrator)
        return self._posteriors_of(await self.alabel_logprobs(X, labels=labels))

    def scorer(self) -> Scorer:
        """Return what scores rows."""
        raise NotImplementedError

    def fitted_calibrator(self) -> Any:
        """Return the calibrator, checked against what is scored now."""
        raise NotImplementedError

    def _posteriors_of(self, scores: LabelLogprobs) -> Posteriors:
        raise NotImplementedError
