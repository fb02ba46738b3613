"""The options that a command was given, by command line or environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from classify.cli.options import Option, options_of

__all__ = ["Given"]

_Group = TypeVar("_Group")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The parameters of a command.

    Attributes
    ----------
    values : mapping of str to Any
        Of all parameters, by name, as they were typed.
    spelled : mapping of str to str
        How each of them is typed: ``{"as_json": "--json"}``.
    typed : frozenset of str
        The names of those on the command line.
    environment : mapping of str to str
        The variable that each of the others has its value from, if it has.
    """

    values: Mapping[str, Any]
    spelled: Mapping[str, str]
    typed: frozenset[str]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, context: typer.Context) -> "Given":
        """Return what a command was given."""
        sources: dict[str, set[str]] = {}
        for name in context.params:
            source = context.get_parameter_source(name)
            sources.setdefault(source.name if source else "", set()).add(name)
        parameters = {each.name or "": each for each in context.command.params}
        variables = sources.get("ENVIRONMENT", set())
        return cls(
            values=context.params,
            spelled={
                name: max(each.opts, key=len) for name, each in parameters.items()
            },
            typed=frozenset(sources.get("COMMANDLINE", set())),
            environment={name: str(parameters[name].envvar) for name in variables},
        )

    def read(self, option: Option) -> Any:
        """Return the value of an option, or raise ConfigError."""
        shown = self.environment.get(option.name, self.spelled[option.name])
        return option.read(self.values[option.name], shown)

    def group(self, kind: type[_Group]) -> _Group:
        """Return a dataclass of settings with the values that were given."""
        names = self.typed | self.environment.keys()
        options = (each for each in options_of(kind) if each.name in names)
        return kind(**{each.name: self.read(each) for each in options})
