"""What is known of a kind of engine before it is loaded.

Each engine's folder has a module `kind` with one `EngineKind`, and
`classify.engines.registry` lists the folders. Nothing else in the package knows an
engine by its name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

from classify.engines.protocol import BaseEngine
from classify.errors import ConfigError, MissingDependencyError, missing_dependency
from classify.parameters import Allowed
from classify.wording import parameter

__all__ = [
    "NO_SPECULATION",
    "SETTINGS",
    "EngineKind",
    "EngineOption",
    "Requirement",
    "Verdict",
    "installed_packages",
]

# What `classify.engines.load_engine` may be told of any engine, and the values that ask
# for nothing.
SETTINGS: Mapping[str, Any] = {
    "dtype": "auto",
    "device": "auto",
    "batch_size": "auto",
    "trust_remote_code": False,
    "revision": None,
    "speculation": None,
}
# Of an engine that has none; `{others}` are the engines that do.
NO_SPECULATION = (
    "{which} has no speculative decoding: use {others}, or leave {setting} out."
)


class EngineOption(NamedTuple):
    """An option of one kind of engine, in addition to the settings of all engines.

    Attributes
    ----------
    name : str
        As in `engine_options`, and in the engine's ``load``.
    allowed : Allowed
        Its values.
    help : str
        What it is for, as the command line shows it.
    changes_values : bool, default=True
        False if it says where and how fast, but not what comes out: a job may resume,
        and its scores be used again, with another value.
    multiplies_gpus : bool, default=False
        Whether its value multiplies the GPUs that an engine takes.
    selects : bool, default=False
        Whether ``engine="auto"`` takes this engine where the option is given.
    on_command_line : bool, default=False
        Whether the command line has an option of its own for it, not only
        ``--engine-option``.
    metavar : str, default="NAME"
        What stands for its value in help.
    """

    name: str
    allowed: Allowed
    help: str
    changes_values: bool = True
    multiplies_gpus: bool = False
    selects: bool = False
    on_command_line: bool = False
    metavar: str = "NAME"


class Requirement(NamedTuple):
    """A package that an engine needs, and that is not always installed.

    Attributes
    ----------
    module : str
        What is imported.
    extra : str
        The extra of this distribution that brings it.
    need : str
        Begins the sentence that says it is missing, such as "The vllm engine needs
        vLLM".
    note : str, default=""
        What follows the command that installs it.
    """

    module: str
    extra: str
    need: str
    note: str = ""

    def missing(self) -> MissingDependencyError:
        """Return the error for the package that is missing."""
        return missing_dependency(self.need, self.extra, note=self.note)


class Verdict(NamedTuple):
    """Whether ``engine="auto"`` takes an engine, and why, in words."""

    is_taken: bool
    reason: str


def installed_packages(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _imported(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """An engine as it is known before it is loaded; importing it loads nothing heavy.

    Attributes
    ----------
    name : str
        In options and reports; the name of its folder.
    title : str
        What sentences call it.
    engine : str
        Its class, ``"module:name"``, imported when it is loaded. The class has
        ``load(model, **settings_and_options)``.
    models : str
        The models that it takes, for the sentence that refuses others.
    takes_objects : bool, default=False
        Whether a model object is accepted, besides a name or path.
    file_suffix : str, default=""
        How the names of files end that are models of this engine, and of no other.
    tokenizer : str, default=""
        What returns the tokenizer in such a file, ``"module:function"``.
    options : tuple of EngineOption, default=()
    takes_other_options : bool, default=False
        Whether ``load`` takes options that are not listed, and checks them itself.
    refused : mapping of str to str, default={}
        The settings of `classify.engines.load_engine` that it does not take, and the
        sentence for each: of ``{which}`` engine, ``{setting}``, ``{value}``, and the
        ``{others}`` that take it.
    runs_here : bool, default=True
        Whether the model is loaded on this machine.
    uses_gpus : bool, default=False
        Whether it computes on the GPUs of this machine, if there are any.
    packages : tuple of str, default=()
        Distributions that compute its values; alternatives stand side by side.
    requires : Requirement, optional
    fault : callable, optional
        Returns why the version that is installed cannot be used, or None.
    may_list : callable, optional
        From options to whether the engine may show only the most likely tokens, so that
        probabilities are known within bounds. Absent: it shows every token.
    suits : callable, optional
        From a model and a device to whether ``engine="auto"`` takes it. Absent: only
        by an option that `selects`.
    """

    name: str
    title: str
    engine: str
    models: str
    takes_objects: bool = False
    file_suffix: str = ""
    tokenizer: str = ""
    options: tuple[EngineOption, ...] = ()
    takes_other_options: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    runs_here: bool = True
    uses_gpus: bool = False
    packages: tuple[str, ...] = ()
    requires: Requirement | None = None
    fault: Callable[[], str | None] | None = None
    may_list: Callable[[Mapping[str, Any]], bool] | None = None
    suits: Callable[[Any, str], Verdict] | None = None

    def load(self, model: Any, **options: Any) -> BaseEngine:
        """Load an engine; `options` are settings and options, checked beforehand.

        Raises
        ------
        MissingDependencyError
            Its requirement is not installed.
        """
        self.check_requirement()
        return cast(BaseEngine, self.engine_class().load(model, **options))

    def check_requirement(self) -> None:
        """Raise MissingDependencyError if its requirement is not installed."""
        needed = self.requires
        if needed is not None and find_spec(needed.module) is None:
            raise needed.missing()

    def engine_class(self) -> Any:
        """Import the engine's class."""
        return _imported(self.engine)

    def tokenizer_of(self, file: str) -> Any:
        """Return the tokenizer that is in a file of a model of this engine."""
        self.check_requirement()
        return _imported(self.tokenizer)(file)

    def check_model(self, model: Any) -> None:
        """Raise ConfigError if it takes no model of this type."""
        if not self.takes_objects and not isinstance(model, str | Path):
            raise ConfigError(
                f"The {self.name} engine loads models by name: give {self.models}, not "
                f"an object of type {type(model).__name__}."
            )

    def check_values(self, options: Mapping[str, Any]) -> None:
        """Raise ConfigError if an option has a value that is not allowed."""
        for each in self.options:
            if each.name in options and not each.allowed.holds(options[each.name]):
                raise ConfigError(
                    f"{parameter(each.name)} must be {each.allowed.says}. "
                    f"Got {options[each.name]!r}."
                )

    def takes(self, name: str) -> bool:
        """Whether it has a setting, or an option that is listed."""
        return self.lists(name) if name not in SETTINGS else name not in self.refused

    def takes_option(self, name: str) -> bool:
        """Whether it has an option, listed or not."""
        return self.takes_other_options or self.lists(name)

    def lists(self, name: str) -> bool:
        """Whether an option is one of those listed."""
        return any(each.name == name for each in self.options)

    def changes_values(self, name: str) -> bool:
        """Whether values depend on an option; on one that is not listed they may."""
        return all(each.changes_values for each in self.options if each.name == name)

    def is_selected_by(self, options: Mapping[str, Any]) -> bool:
        """Whether ``engine="auto"`` takes it because of an option that is given."""
        return any(each.selects and each.name in options for each in self.options)

    def n_gpus(self, options: Mapping[str, Any]) -> int:
        """Return how many GPUs one engine takes, where there are any."""
        factors = [each.name for each in self.options if each.multiplies_gpus]
        return self.uses_gpus * prod(int(options.get(name) or 1) for name in factors)

    def named(self) -> str:
        """Return how a message says to choose it."""
        return parameter("engine", self.name)
