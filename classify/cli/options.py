"""From the settings of a dataclass to the options of a command, and back."""

import csv
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import typer

from classify.errors import ConfigError
from classify.labels import LabelSet
from classify.parameters import Setting, listed, settings_of

__all__ = ["Option", "options_of", "parse_pairs", "parse_speculation", "split_labels"]

_EXAMPLES = {
    "--engine-option": "max_model_len=4096",
    "--speculation": "method=draft_model,model=FOLDER",
    "--template-argument": "thinking=false",
}


class Option(NamedTuple):
    """A setting as an option of the command line.

    Attributes
    ----------
    name : str
        Of the setting, which is the name of the parameter.
    setting : Setting
    types : frozenset of type
        What the value may be.
    default : Any
        The setting's own; None where each instance gets a new one.
    panel : str
        The heading that it stands under in help.
    """

    name: str
    setting: Setting
    types: frozenset[Any]
    default: Any
    panel: str

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value."""
        return True in self.setting.allowed.values

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given several times."""
        return self.setting.metavar == "KEY=VALUE"

    @property
    def choices(self) -> tuple[str, ...]:
        """All its values, if they are a few words."""
        return () if self.is_flag else tuple(map(str, self.setting.allowed.values))

    def parameter(self) -> inspect.Parameter:
        """Return the parameter of which typer makes this option."""
        setting, shown = self.setting, self._default_shown()
        option = typer.Option(
            *(setting.option or "--" + self.name.replace("_", "-")).split(),
            metavar=None if self.is_flag else setting.metavar,
            help=setting.help,
            show_default=setting.default or shown is not None,
            envvar=f"CLASSIFY_{self.name.upper()}" if setting.has_variable else None,
            autocompletion=None if self.is_flag else self._complete,
            rich_help_panel=self.panel,
        )
        kind: Any = bool if self.is_flag else list[str] if self.is_repeated else str
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=shown,
            annotation=Annotated[kind | None, option],
        )

    def read(self, typed: Any, shown: str) -> Any:
        """Return the value of what was typed, or raise ConfigError.

        Parameters
        ----------
        typed : str, bool or sequence of str
        shown : str
            What messages call the option.
        """
        if self.choices:
            return self._chosen(typed, shown)
        value, allowed = self._parsed(typed, shown), self.setting.allowed
        # What is read further is checked where it is read, numbers excepted.
        is_number = isinstance(value, int | float)
        if (is_number or self.setting.read is None) and not allowed.holds(value):
            says = (allowed.written or allowed.says).removesuffix(" or null")
            got = typed if is_number else repr(value)
            raise ConfigError(f"{shown} must be {says}. Got {got} instead.")
        return Path(value) if Path in self.types else value

    def _parsed(self, typed: Any, shown: str) -> Any:
        """Return what was typed as a value of one of the types, if it can be."""
        if self.is_repeated:
            return parse_pairs(typed, shown)
        if self.is_flag:
            return typed
        if LabelSet in self.types:
            return split_labels(typed, shown)
        for kind in (int, float):
            if kind in self.types:
                try:
                    return kind(typed)
                except ValueError:
                    continue
        return parse_speculation(typed) if Mapping in self.types else typed

    def _chosen(self, typed: str, shown: str) -> str:
        if (value := typed.strip().lower()) in self.choices:
            return value
        near = get_close_matches(typed.lower(), self.choices, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"{shown} must be {listed(self.choices)}. Got {typed!r} instead.{hint}"
        )

    def _default_shown(self) -> str | None:
        """Return the default as it would be typed, if help shows it."""
        hidden = self.setting.default or self.is_flag or self.is_repeated
        return None if hidden or self.default in (None, "", ()) else str(self.default)

    def _complete(self, incomplete: str) -> Iterator[str]:
        values = self.choices or self.setting.common
        return (value for value in values if value.startswith(incomplete))


def options_of(kind: Any, *, panel: str = "") -> tuple[Option, ...]:
    """Return the options of a dataclass of settings, in the order of its fields.

    Parameters
    ----------
    kind : type
    panel : str, default=""
        The heading in help of settings that name none.
    """
    of_fields: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}
    return tuple(
        Option(
            name,
            setting,
            _types(get_args(of_fields[name].type)[0]),
            None if of_fields[name].default is MISSING else of_fields[name].default,
            setting.panel or panel,
        )
        for name, setting in settings_of(kind).items()
        if setting.help
    )


def _types(annotation: Any) -> frozenset[Any]:
    is_union = get_origin(annotation) in (Union, UnionType)
    members = get_args(annotation) if is_union else (annotation,)
    return frozenset(get_origin(each) or each for each in members)


def split_labels(typed: str, option: str = "--labels") -> list[str]:
    r"""Split label names at commas, as in a line of CSV.

    Examples
    --------
    >>> split_labels('billing, "returns, refunds"')
    ['billing', 'returns, refunds']
    """
    try:
        names = next(csv.reader([typed], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ConfigError(
            f"{option} {typed!r} cannot be split: {error}. Put a name that contains a "
            "comma in double quotes, and double the quotes within it."
        ) from None
    return [name.strip() for name in names]


def parse_speculation(text: str) -> str | dict[str, Any]:
    """Return what ``--speculation`` says: a method's name, or a mapping.

    Examples
    --------
    >>> parse_speculation("ngram")
    'ngram'
    >>> parse_speculation("method=eagle,model=head,num_speculative_tokens=3")
    {'method': 'eagle', 'model': 'head', 'num_speculative_tokens': 3}
    >>> parse_speculation('{"method": "mtp"}')
    {'method': 'mtp'}
    """
    if text.lstrip().startswith("{"):
        try:
            parsed: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"--speculation {text!r} is not JSON: {error}. Or give it as "
                "method=NAME,KEY=VALUE."
            ) from None
        return parsed
    if "=" not in text:
        return text.strip()
    return parse_pairs(text.split(","), "--speculation")


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Return the names and values that an option gives, each as ``KEY=VALUE``.

    Values are JSON where they can be, else text.

    Examples
    --------
    >>> texts = ["seed=3", "enforce-eager=true", "quantization=fp8"]
    >>> parse_pairs(texts, "--engine-option")
    {'seed': 3, 'enforce_eager': True, 'quantization': 'fp8'}
    """
    pairs: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if option != "--template-argument":  # a template's names are its own
            key = key.replace("-", "_")
        if not equals or not key.isidentifier():
            example = f", such as {_EXAMPLES[option]}" if option in _EXAMPLES else ""
            raise ConfigError(f"{option} {text!r} must be KEY=VALUE{example}.")
        try:
            pairs[key] = json.loads(value)
        except json.JSONDecodeError:
            pairs[key] = value.strip()
    return pairs
