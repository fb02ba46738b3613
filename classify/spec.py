"""Each setting once: what runs, how texts are scored, and what a task consists of.

How a model is asked is in `PromptTemplate` and `Verbalizer`. The parameters of the
estimator, the keys of task files and the options of commands are three spellings of
these fields.
"""

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Annotated, Any, Literal

from classify.engines.choice import EngineChoice, choose_engine
from classify.engines.protocol import Engine, with_defaults
from classify.engines.registry import candidates, engine_names
from classify.errors import ConfigError
from classify.parameters import (
    BOOLEAN,
    TEXT,
    Allowed,
    Setting,
    at_least,
    check_settings,
    instance_of,
    listed,
    number,
    one_of,
    optional,
    settings_of,
)
from classify.wording import no_effect, parameter

__all__ = ["Generation", "ModelSpec", "Scoring"]


def _number_of_text(value: Any) -> Any:
    # YAML 1.1 reads 1e-3, without a point, as text.
    return float(value) if isinstance(value, str) else value


def _speculation(value: Any) -> Any:
    from classify.engines.speculation import checked_speculation

    if isinstance(value, str | Mapping):
        checked_speculation(value)  # refuses what no method can do
    return value


def _is_batch_size(value: Any) -> bool:
    return value == "auto" or at_least(1, whole=True).holds(value)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What runs: parameters of `ZeroShotClassifier` that go to the engine.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> ModelSpec(dtype="bfloat16").engine_arguments()["dtype"]
    'bfloat16'
    """

    model: Annotated[
        str,
        Setting(
            "Folder, GGUF file or Hugging Face id of a causal language model.",
            instance_of("a string", str, os.PathLike),
            default="the demo model",
            common=("demo",),
            has_variable=True,
        ),
    ] = "demo"
    engine: Annotated[
        str | Engine,
        Setting(
            f"{listed(engine_names())}.",
            Allowed(
                "the name of an engine, or an Engine",
                lambda value: isinstance(value, str | Engine),
                "a string",
                engine_names(),
            ),
            default="auto: vllm on a GPU",
            has_variable=True,
        ),
    ] = "auto"
    dtype: Annotated[
        str,
        Setting(
            "Data type of the weights, such as bfloat16.",
            TEXT,
            default="float32 on a CPU",
            common=("auto", "float32", "bfloat16", "float16"),
            has_variable=True,
        ),
    ] = "auto"
    device: Annotated[
        str,
        Setting(
            "Where to compute: cpu, cuda, cuda:1, mps, …",
            TEXT,
            default="a GPU, if there is one",
            common=("auto", "cpu", "cuda", "mps"),
            has_variable=True,
        ),
    ] = "auto"
    batch_size: Annotated[
        int | Literal["auto"],
        Setting(
            "Texts in one batch.",
            Allowed(
                "'auto', or a whole number, at least 1",
                _is_batch_size,
                "auto or an integer above 0",
            ),
            metavar="N",
            common=("auto",),
        ),
    ] = "auto"
    revision: Annotated[
        str | None,
        Setting("Revision of a hub model: a branch, tag or commit.", optional(TEXT)),
    ] = None
    trust_remote_code: Annotated[
        bool,
        Setting(
            "Run code that comes with the model.",
            BOOLEAN,
            option="--trust-remote-code",
        ),
    ] = False
    speculation: Annotated[
        str | Mapping[str, Any] | None,
        Setting(
            "vLLM's speculative decoding: labels, ngram, …, or "
            "method=eagle,model=FOLDER.",
            optional(
                instance_of("a string or a mapping", str, Mapping),
                written="the name of a method, or a mapping with its method",
            ),
            metavar="METHOD",
            common=("labels", "ngram", "suffix", "mtp"),
            read=_speculation,
        ),
    ] = None
    engine_options: Annotated[
        Mapping[str, Any] | None,
        Setting(
            "Any other option of the engine, such as max_model_len=4096. Can be "
            "repeated.",
            optional(
                instance_of("a mapping", Mapping),
                written="a mapping of names to values",
            ),
            metavar="KEY=VALUE",
            option="--engine-option",
        ),
    ] = None

    # Whose parameters they are, for messages.
    owner: InitVar[str] = "ZeroShotClassifier"

    def __post_init__(self, owner: str) -> None:
        check_settings(self, owner)

    @classmethod
    def of(cls, owner: Any) -> "ModelSpec":
        """Return the values of an estimator's parameters of the same names."""
        values = {name: getattr(owner, name) for name in settings_of(cls)}
        return cls(owner=type(owner).__name__, **values)

    def engine_choice(self) -> EngineChoice:
        """Return the name of the engine that runs the model, and why it is this one."""
        if isinstance(self.engine, str):
            return choose_engine(
                self.engine,
                self.model,
                device=self.device,
                options=self.engine_options,
            )
        return EngineChoice(self.engine.name, "")

    @property
    def may_list(self) -> bool:
        """Whether the engine may show only the most likely tokens; loads nothing."""
        if not isinstance(self.engine, str):
            return with_defaults(self.engine).lists_only
        options = self.engine_options or {}
        kinds = candidates(self.engine, self.model, options)
        return any(each.may_list and each.may_list(options) for each in kinds)

    def engine_arguments(self) -> dict[str, Any]:
        """Return the arguments of the engine's ``load``, except `engine_options`."""
        apart = ("model", "engine", "engine_options")
        names = [name for name in settings_of(ModelSpec) if name not in apart]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Scoring:
    """How texts are scored: parameters of `ZeroShotClassifier`.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> Scoring("exact", tolerance=0.0).tolerance
    0.0
    """

    strategy: Annotated[
        Literal["exact", "generate", "reason"],
        Setting(
            "exact; generate: one label is generated, the others get bounds; or "
            "reason: the model thinks first.",
            one_of("exact", "generate", "reason"),
        ),
    ] = "exact"
    tolerance: Annotated[
        float,
        Setting(
            "Share of the label mass that may stay unresolved; 0 reads everything.",
            number("from 0 (exact) to below 1", lambda value: 0.0 <= value < 1.0),
            metavar="SHARE",
            read=_number_of_text,
        ),
    ] = 1e-3
    max_reasoning_tokens: Annotated[
        int,
        Setting(
            "With reason, maximum number of tokens of a thought.",
            at_least(1, whole=True),
            metavar="N",
        ),
    ] = 512
    n_chains: Annotated[
        int,
        Setting(
            "With reason, how many thoughts to average: 1 is greedy, several are "
            "sampled.",
            at_least(1, whole=True),
            metavar="N",
        ),
    ] = 1
    chain_temperature: Annotated[
        float,
        Setting(
            "Temperature for sampling several thoughts.",
            number("above 0", lambda value: value > 0.0),
            metavar="T",
            read=_number_of_text,
        ),
    ] = 0.7
    chain_seed: Annotated[
        int,
        Setting(
            "Seed for sampling several thoughts.",
            at_least(0, whole=True),
            metavar="N",
        ),
    ] = 0

    _: KW_ONLY
    # Whose parameters they are, for messages.
    owner: InitVar[str] = "ZeroShotClassifier"

    def __post_init__(self, owner: str) -> None:
        check_settings(self, owner)
        if self.strategy != "reason":
            reasons = parameter("strategy", "reason")
            self._check_default("max_reasoning_tokens", "n_chains", needed=reasons)
        if self.n_chains == 1:
            several = f"{parameter('n_chains')} above 1"
            self._check_default("chain_temperature", "chain_seed", needed=several)

    @classmethod
    def of(cls, owner: Any) -> "Scoring":
        """Return the values of an estimator's parameters of the same names."""
        values = {name: getattr(owner, name) for name in settings_of(cls)}
        return cls(owner=type(owner).__name__, **values)

    def _check_default(self, *names: str, needed: str) -> None:
        """Raise ConfigError if a setting was given that has no effect here."""
        for name in names:
            if getattr(self, name) != getattr(Scoring, name):
                raise ConfigError(no_effect(name, needed))

    @property
    def max_thought_tokens(self) -> int:
        """How long the model may think before it answers; 0: it does not."""
        return self.max_reasoning_tokens if self.strategy == "reason" else 0

    @property
    def reasoning(self) -> dict[str, Any] | None:
        """The settings of thoughts that have an effect; None if there are none."""
        if self.strategy != "reason":
            return None
        sampling = ("chain_temperature", "chain_seed") * (self.n_chains > 1)
        names = ("max_reasoning_tokens", "n_chains", *sampling)
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How text is generated: parameters of `track`.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> Generation(max_tokens=8)
    Generation(max_tokens=8, temperature=0.0, n=1, seed=None)
    """

    max_tokens: Annotated[
        int,
        Setting(
            "Maximum number of tokens to generate.",
            at_least(1, whole=True),
            metavar="N",
            panel="Generation",
        ),
    ] = 64
    temperature: Annotated[
        float,
        Setting(
            "0 takes the most likely token; above 0, tokens are sampled.",
            at_least(0),
            metavar="NUMBER",
            panel="Generation",
            read=_number_of_text,
        ),
    ] = 0.0
    n: Annotated[
        int,
        Setting(
            "Generations for each text; above 1 needs a temperature.",
            at_least(1, whole=True),
            metavar="N",
            panel="Generation",
        ),
    ] = 1
    seed: Annotated[
        int | None,
        Setting(
            "Random seed.",
            optional(at_least(0, whole=True)),
            metavar="N",
            panel="Generation",
        ),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self, "track")
        if self.n > 1 and self.temperature == 0.0:
            raise ConfigError(
                f"{parameter('n', self.n)} needs a temperature above 0: without it, "
                f"all generations would be the same. Set {parameter('temperature')} "
                "too."
            )
