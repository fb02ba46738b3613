"""The service behind the requests: a loaded classifier and a bounded queue."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from classify.engines.protocol import with_defaults
from classify.errors import EngineError
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.serve.refusals import RefusedError
from classify.serve.settings import ServeSettings

__all__ = ["Service"]

_Scored = TypeVar("_Scored")

# Seconds after which a client, or a load balancer, should try again.
_RETRY_BUSY, _RETRY_FAILED = 1, 10


class Service:
    """Scores rows of many clients at the same time.

    Parameters
    ----------
    classifier : ZeroShotClassifier or ZeroShotMultiLabelClassifier
        That of the first question.
    settings : ServeSettings

    Attributes
    ----------
    scorer : Scorer
        Of the classifier; its engine stays the same, even if it dies.
    kind : Ordinal, Tree or None
        Gives further results for the classifier's own labels.
    model_name : str
    n_waiting : int
        Texts that wait for their answers.
    """

    def __init__(
        self,
        classifier: ZeroShotClassifier | ZeroShotMultiLabelClassifier,
        settings: ServeSettings,
    ) -> None:
        self.settings = settings
        self.kind = None
        if isinstance(classifier, ZeroShotClassifier):
            self.kind = classifier.question_kind()
        scorer = classifier.scorer()
        engine = classifier.load_engine()
        model = scorer.model
        self.model_name = _name(model.spec.model)
        self.scorer = replace(
            scorer,
            model=replace(
                model,
                spec=replace(model.spec, engine=engine, engine_options=None),
                tokenizer=model.load_tokenizer(),
            ),
        )
        self.n_waiting = 0
        self._engine = with_defaults(engine)
        self._failed_at = -math.inf

    @property
    def is_ready(self) -> bool:
        """Whether requests are likely to be answered.

        An engine that failed without being closed, such as a server that is away, is
        tried again after some seconds.
        """
        is_sound = time.monotonic() - self._failed_at > _RETRY_FAILED
        return is_sound and not self._engine.closed

    async def scored(
        self, n_texts: int, scoring: Callable[[], Awaitable[_Scored]]
    ) -> _Scored:
        """Await scores, while texts of other clients are scored too.

        Parameters
        ----------
        n_texts : int
        scoring : callable
            Starts the scoring.

        Raises
        ------
        RefusedError
            The engine is dead or fails; too many texts wait; it takes too long.
        InputError
            The labels cannot be used.
        """
        self._check_engine()
        self._check_room(n_texts)
        self.n_waiting += n_texts
        limit = asyncio.timeout(self.settings.timeout)
        try:
            async with limit:
                scored = await scoring()
        except TimeoutError:
            if not limit.expired():
                raise
            raise RefusedError(
                504,
                f"There was no answer within {self.settings.timeout:g} seconds: send "
                "fewer texts, or try again later.",
                retry_after=_RETRY_FAILED,
            ) from None
        except EngineError as error:
            self._failed_at = time.monotonic()
            raise self._failure(str(error)) from error
        finally:
            self.n_waiting -= n_texts
        self._failed_at = -math.inf
        return scored

    def check_count(self, count: int, what: str, most: int) -> None:
        """Raise RefusedError if a request holds too many of something."""
        if count > most:
            raise RefusedError(
                413,
                f"The request has {count:,} {what}, but this server allows {most:,}: "
                "send fewer in one request.",
            )

    def _check_engine(self) -> None:
        if self._engine.closed:
            raise self._failure("The engine has stopped.")

    def _check_room(self, n_texts: int) -> None:
        most = self.settings.max_waiting
        if self.n_waiting + n_texts > most:
            raise RefusedError(
                429,
                f"{self.n_waiting:,} texts are waiting, and no more than "
                f"{most:,} may: try again later.",
                retry_after=_RETRY_BUSY,
            )

    def _failure(self, message: str) -> RefusedError:
        seconds = None if self._engine.closed else _RETRY_FAILED
        return RefusedError(
            503, f"The model cannot answer: {message}", retry_after=seconds
        )


def _name(model: str) -> str:
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() else model
