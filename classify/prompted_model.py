"""A language model joined with the recipe of its prompts: rows in, scores out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from classify.demo import located
from classify.encoding import Row, RowEncoder
from classify.engines import Engine, load_engine
from classify.errors import ConfigError, InputError
from classify.labels import LabelSet
from classify.prompts import PromptTemplate
from classify.scoring import LabelLogprobs, Strategy, score_prompts
from classify.tokenizer import Tokenizer, load_tokenizer
from classify.verbalizer import AnswerSpace, ScorablePrompt, Verbalizer

__all__ = ["MODEL_PARAMETERS", "Progress", "PromptedModel"]

logger = logging.getLogger(__name__)

Progress = Callable[[int], object]

# Below this mean label mass nearly all of the model's belief is on other answers.
_LOW_LABEL_MASS = 0.01


@dataclass(kw_only=True)
class PromptedModel:
    """What turns rows into label log-probabilities; loads nothing before it is needed.

    Attributes are the parameters of `classify.classifier.ZeroShotClassifier` of the
    same names, with its defaults filled in. Two that are equal ask the same model in
    the same way.
    """

    template: PromptTemplate
    verbalizer: Verbalizer
    model: str
    engine: str | Engine
    dtype: str
    device: str
    batch_size: int | Literal["auto"]
    revision: str | None
    trust_remote_code: bool
    speculation: str | Mapping[str, Any] | None
    engine_options: Mapping[str, Any] | None
    tokenizer: Tokenizer | None
    _encoder: RowEncoder | None = field(default=None, init=False, compare=False)
    _warned: bool = field(default=False, init=False, compare=False)

    def load_engine(self) -> Engine:
        """Return what runs the model, and load it if that has not been done.

        Raises
        ------
        ConfigError
            `engine_options` hold what is a parameter of its own, or what the engine
            does not know.
        """
        if not isinstance(self.engine, str):
            return self.engine
        options: dict[str, Any] = {
            "dtype": self.dtype,
            "device": self.device,
            "batch_size": self.batch_size,
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "speculation": self.speculation,
        }
        further = self.engine_options or {}
        for name in further:
            if name in (*options, "model"):
                raise ConfigError(
                    f"engine_options has {name!r}, which is a parameter of its own: "
                    "give it there."
                )
        return load_engine(self.engine, located(self.model), **options, **further)

    def space(self, labels: LabelSet) -> AnswerSpace:
        """Return the token paths of labels behind the prompt; loads the tokenizer."""
        return self._row_encoder().space(labels)

    def encode(
        self,
        rows: Sequence[Row | InputError],
        labels: Sequence[LabelSet | InputError],
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows, each with the labels that it may get.

        A row that cannot be asked stays, or becomes, its error. Nothing is loaded if
        that is every row.
        """
        if all(isinstance(row, InputError) for row in rows):
            return [row for row in rows if isinstance(row, InputError)]
        context_length = self.load_engine().context_length
        return self._row_encoder().encode(rows, labels, context_length)

    def score(
        self,
        prompts: Sequence[ScorablePrompt],
        strategy: Callable[[ScorablePrompt], Strategy],
        columns: Sequence[str],
        *,
        progress: Progress | None = None,
        return_steps: bool = False,
    ) -> LabelLogprobs:
        """Return log p(label | prompt), shape (n_texts, n_labels), a label a column."""
        scored = []
        if prompts:
            engine = self.load_engine()
            scored = score_prompts(prompts, strategy, engine, progress=progress)
        scores = LabelLogprobs.of(scored, columns, return_steps=return_steps)
        self.warn_of_low_mass(scores)
        return scores

    def warn_of_low_mass(self, scores: LabelLogprobs) -> None:
        """Log, once, that the model would rather answer with something else."""
        if not len(scores) or self._warned:
            return
        mean = float(scores.label_mass.mean())
        if mean < _LOW_LABEL_MASS:
            self._warned = True  # once is enough, whatever the number of calls
            logger.warning(
                "The mean label mass is %.2g: the model would rather answer with "
                "something else than a label, and the probabilities rest on so little. "
                "List the options in the prompt, or use the words that it would use.",
                mean,
            )

    def _row_encoder(self) -> RowEncoder:
        if self._encoder is None:
            self._encoder = RowEncoder(
                self.template, self.verbalizer, self._load_tokenizer()
            )
        return self._encoder

    def _load_tokenizer(self) -> Tokenizer:
        if self.tokenizer is not None:
            return self.tokenizer
        return load_tokenizer(
            located(self.model),
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
        )


# What the estimator hands over under the same name.
MODEL_PARAMETERS = tuple(
    each.name
    for each in fields(PromptedModel)
    if each.init and each.name not in ("template", "verbalizer")
)
