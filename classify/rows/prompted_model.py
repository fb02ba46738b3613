"""A language model joined with the recipe of its prompts: rows in, prompts out."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any

from classify.demo import located
from classify.engines import BaseEngine, Engine, load_engine
from classify.engines.files import Files, files_of
from classify.engines.turns import Turns
from classify.errors import ConfigError, InputError, ModelLoadError, RowError
from classify.labels import LabelSet
from classify.parameters import (
    check_parameters,
    instance_of,
    optional,
    settings_of,
)
from classify.prompts import PromptTemplate
from classify.prompts.listing import answer_settings
from classify.prompts.shortlist import check_escape
from classify.rows.encoding import Row, RowEncoder, Space
from classify.scoring import LabelLogprobs, LiveRun
from classify.scoring.doubts import doubt_label_mass, doubt_one_label
from classify.spec import ModelSpec, Scoring
from classify.tokenizer import Tokenizer, load_tokenizer
from classify.verbalizer import ScorablePrompt, Verbalizer
from classify.verbalizer.audit import LabelAudit
from classify.wording import parameter

__all__ = ["Progress", "PromptedModel", "Refuse"]

Progress = Callable[[int], object]
# Makes the exception that a row raises, of its position and its error.
Refuse = Callable[[int, RowError], Exception]
# For all estimators: it takes no time.
_keeping = Turns()


@dataclass(kw_only=True)
class PromptedModel:
    """Turns rows into prompts of a model; loads nothing before it is needed.

    Two that are equal ask the same model in the same way: `files` are those that the
    model has now.
    """

    template: PromptTemplate
    verbalizer: Verbalizer
    spec: ModelSpec
    tokenizer: Tokenizer | None
    # How long the model may think before it answers; 0: it does not.
    max_thought_tokens: int = 0
    # Whose parameters they are, for messages.
    owner: InitVar[str] = "ZeroShotClassifier"
    files: Files = field(init=False)
    _engine: BaseEngine | None = field(default=None, init=False, compare=False)
    _engine_pid: int = field(default=0, init=False, compare=False)
    _encoder: RowEncoder | None = field(default=None, init=False, compare=False)
    _live: LiveRun | None = field(default=None, init=False, compare=False)
    # Warn of doubts once, whatever the number of calls.
    _doubts_mass: bool = field(default=False, init=False, compare=False)
    _doubts_labels: bool = field(default=False, init=False, compare=False)

    def __post_init__(self, owner: str) -> None:
        check_parameters(
            owner,
            verbalizer=(self.verbalizer, instance_of("a Verbalizer", Verbalizer)),
            tokenizer=(
                self.tokenizer,
                optional(instance_of("a Tokenizer", Tokenizer)),
            ),
        )
        if self.max_thought_tokens:
            settings = {
                name: parameter(name, value)
                for name, value in answer_settings(self.template).items()
            }
            if self.template.ensemble:
                settings["ensemble"] = parameter("ensemble")
            for spelled in settings.values():
                raise ConfigError(
                    f"{spelled} cannot be combined with "
                    f"{parameter('strategy', 'reason')}, which uses one prompt and "
                    "reads the label's words: remove one of the two."
                )
        self.files = self._files_now()

    def __getstate__(self) -> dict[str, Any]:
        names = [each.name for each in fields(self) if each.init]
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # In another process, and perhaps on another machine.
        self.__init__(**state)  # type: ignore[misc]

    @classmethod
    def of(
        cls, owner: Any, template: PromptTemplate, scoring: Scoring
    ) -> "PromptedModel":
        """Return that of an estimator's parameters, made before if nothing changed."""
        check_escape(template, getattr(owner, "escape", None))
        wanted = cls(
            template=template,
            verbalizer=Verbalizer() if owner.verbalizer is None else owner.verbalizer,
            spec=ModelSpec.of(owner),
            tokenizer=owner.tokenizer,
            max_thought_tokens=scoring.max_thought_tokens,
            owner=type(owner).__name__,
        )
        return wanted._kept_by(owner)

    def _kept_by(self, owner: Any) -> "PromptedModel":
        """Return an equal one that an estimator made before, or else keep this one.

        Parameters may be set, and the model saved, again at any time; what was compiled
        of others is old.
        """

        def compare() -> PromptedModel:
            made: PromptedModel | None = getattr(owner, "_made", None)
            if made != self:
                made = owner._made = self
            return made

        return _keeping.run(compare)

    def over(self, engine: Engine) -> "PromptedModel":
        """Return the same over an engine, with the prompts that were compiled."""
        made = replace(self, spec=replace(self.spec, engine=engine))
        made._encoder = self._encoder
        return made

    def load_engine(self) -> Engine:
        """Return the engine, and load it if it has not been loaded.

        It stays the same, unless it is closed or this is a forked child.

        Raises
        ------
        ConfigError
            `engine_options` hold what is a parameter of its own, or what the engine
            does not know.
        """
        spec = self.spec
        if not isinstance(spec.engine, str):
            return spec.engine
        kept = self._engine
        if kept is not None and self._engine_pid == os.getpid() and not kept.closed:
            return kept
        further = spec.engine_options or {}
        for name in further:
            if name in settings_of(ModelSpec):
                raise ConfigError(
                    f"engine_options has {name!r}, which is a parameter of its own: "
                    "give it there."
                )
        self.check_files()
        kept = load_engine(
            spec.engine, located(spec.model), **spec.engine_arguments(), **further
        )
        self._engine, self._engine_pid = kept, os.getpid()
        return kept

    def check_files(self) -> None:
        """Raise ModelLoadError if the model was saved again since this was made."""
        if self._files_now() != self.files:
            raise ModelLoadError(
                f"The files of the model {self.spec.model!r} were saved again while it "
                "was in use, so the results would mix two models: run this again."
            )

    def _files_now(self) -> Files:
        spec = self.spec
        return files_of(located(spec.model), [spec.engine_options, spec.speculation])

    def space(self, labels: LabelSet) -> Space:
        """Return the token paths of labels after the first prompt about a text."""
        return self.spaces(labels)[0]

    def spaces(self, labels: LabelSet) -> tuple[Space, ...]:
        """Return the token paths of labels after each prompt about a text."""
        return self._row_encoder().spaces(labels)

    def audit(self, labels: LabelSet) -> LabelAudit:
        """Return how the label words will be read, in each form of the answer."""
        return self._row_encoder().audit(labels)

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

    def live_run(self) -> LiveRun:
        """Return the run that prompts of many callers join."""
        engine = self.load_engine()

        def find_or_make() -> LiveRun:
            if self._live is None or not self._live.runs_on(engine):
                self._live = LiveRun(engine)
            return self._live

        return _keeping.run(find_or_make)

    def warn_of_low_mass(self, scores: LabelLogprobs, question: str = "") -> None:
        """Log, once, that the model would rather answer with something else."""
        if len(scores) and not self._doubts_mass:
            mean = float(scores.label_mass.mean())
            self._doubts_mass = doubt_label_mass(mean, question)

    def warn_of_one_label(self, labels: Iterable[Any], question: str = "") -> None:
        """Log, once, that nearly all texts get the same label; None is no label."""
        if not self._doubts_labels:
            counts = Counter(label for label in labels if label is not None)
            self._doubts_labels = doubt_one_label(counts, question=question)

    def _row_encoder(self) -> RowEncoder:
        if self._encoder is None:
            tokenizer, most = self.load_tokenizer(), self.max_thought_tokens
            self._encoder = RowEncoder(self.template, self.verbalizer, tokenizer, most)
        return self._encoder

    def load_tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer, or the one that was given."""
        if self.tokenizer is not None:
            return self.tokenizer
        self.check_files()
        return load_tokenizer(
            located(self.spec.model),
            revision=self.spec.revision,
            trust_remote_code=self.spec.trust_remote_code,
        )
