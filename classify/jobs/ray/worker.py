"""What runs on a worker of a cluster: an engine, loaded once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from classify import __version__
from classify.errors import ConfigError
from classify.jobs.identity import score_digests
from classify.jobs.pool import Answer, Texts, score_texts
from classify.jobs.ray.cluster import ray_module
from classify.rows.scorer import Scorer
from classify.wording import Spelling, spelled_by

__all__ = ["Expected", "TextWorker"]


class Expected(NamedTuple):
    """What a worker must agree on with the process that asks it.

    Attributes
    ----------
    version : str
        Of this package.
    engine : str
        Name of the engine.
    digests : list of bytes
        What `classify.jobs.identity.score_digests` returns for each scorer.
    """

    version: str
    engine: str
    digests: list[bytes]


class TextWorker:
    """Scores texts; becomes an actor of Ray."""

    def load(
        self, expected: Expected, scorers: Sequence[Any], spelling: Spelling
    ) -> None:
        """Load the engine.

        Parameters
        ----------
        expected : Expected
        scorers : sequence of one ray.ObjectRef
            Refers to a tuple of `Scorer`, one for each question. In a sequence, so
            that Ray does not unpack it before versions are compared.
        spelling : callable
            How messages name parameters where the job was started.

        Raises
        ------
        ConfigError
            Something here is not as expected.
        ModelLoadError
            The model cannot be loaded.
        """
        if __version__ != expected.version:
            raise ConfigError(
                f"classify {__version__} is installed on a worker, and the job "
                f"was started with {expected.version}: install that version on every "
                "machine of the cluster."
            )
        # As long as this process lives.
        self._speaking = spelled_by(spelling)
        self._speaking.__enter__()
        self._scorers: tuple[Scorer, ...] = ray_module().get(scorers[0])
        model = self._scorers[0].model
        engine = model.load_engine()
        if engine.name != expected.engine:
            raise ConfigError(
                f"The engine {model.spec.engine!r} is {engine.name!r} on a worker, and "
                f"{expected.engine!r} where the job was started: name one of the two."
            )
        if score_digests(self._scorers) != expected.digests:
            raise ConfigError(
                f"The model {model.spec.model!r} is not the same on a "
                "worker as where the job was started: put the same files there on "
                "every machine of the cluster."
            )

    def score(self, texts: Texts) -> Answer:
        """Score texts; see `classify.jobs.pool.score_texts`."""
        return score_texts(self._scorers, texts)

    def close(self) -> None:
        """End the engine, and the processes that it may have."""
        self._scorers[0].model.load_engine().close()
