"""What a command was given, and whether it was typed or came from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import typer

from classify.cli.choices import CHOICES, check_choice

__all__ = ["Given"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """The parameters of a command.

    Attributes
    ----------
    values : mapping of str to Any
        Of all parameters, by name.
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
        """Return what a command was given, or raise ConfigError for a bad choice."""
        sources: dict[str, set[str]] = {}
        for name in context.params:
            source = context.get_parameter_source(name)
            sources.setdefault(source.name if source else "", set()).add(name)
        parameters = {each.name or "": each for each in context.command.params}
        variables = sources.get("ENVIRONMENT", set())
        given = cls(
            values=context.params,
            spelled={
                name: max(each.opts, key=len) for name, each in parameters.items()
            },
            typed=frozenset(sources.get("COMMANDLINE", set())),
            environment={name: str(parameters[name].envvar) for name in variables},
        )
        for name in CHOICES.keys() & context.params.keys():
            check_choice(name, context.params[name], shown=given.shown(name))
        return given

    def fields_of(self, kind: type, *, but: str = "") -> dict[str, Any]:
        """Return those of the values that are fields of a dataclass."""
        names = {each.name for each in fields(kind)} - {but}
        return {name: value for name, value in self.values.items() if name in names}

    def shown(self, name: str) -> str:
        """Return what a message calls a parameter: its option, or its variable."""
        return self.environment.get(name, self.spelled[name])
