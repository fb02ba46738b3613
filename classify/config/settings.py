"""Dataclasses of settings, made from files and options."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

from classify.errors import ConfigError, InputError
from classify.parameters import Setting, settings_of

__all__ = ["Wording", "shortened", "with_settings"]

_Settings = TypeVar("_Settings")


class Wording(NamedTuple):
    """How sentences speak of where a value came from."""

    where: str
    name: Callable[[str], str]

    def told(self, cause: InputError) -> InputError:
        """Return the error of a value, with the file that it stands in."""
        where = f"{self.where[:1].upper()}{self.where[1:]}: "
        return type(cause)(f"{where if ' file ' in where else ''}{cause}")


def with_settings(
    base: _Settings, settings: Mapping[Any, Any], wording: Wording, inside: str = ""
) -> _Settings:
    """Return a dataclass of settings with other values; `inside` is its own key."""
    kind: Any = type(base)
    own = settings_of(kind)
    # Settings of a dataclass that is no setting itself are keys next to the others.
    groups = {each.name: each.type for each in fields(kind) if is_dataclass(each.type)}
    allowed = [
        key
        for name in (each.name for each in fields(kind))
        for key in (settings_of(groups[name]) if name in groups else [name])
        if name in groups or name in own
    ]
    for key in settings:
        if key not in allowed:
            raise _unknown_key(f"{inside}{key}", allowed, wording)
    changes = {}
    for name, group in groups.items():
        part = {key: settings[key] for key in settings_of(group) if key in settings}
        changes[name] = with_settings(getattr(base, name), part, wording)
    for name in (name for name in own if name in settings):
        path = f"{inside}{name}"
        before = getattr(base, name)
        changes[name] = _value(own[name], settings[name], before, wording, path)
    made: Any = base
    try:
        return cast(_Settings, replace(made, **changes))
    except InputError as cause:
        raise wording.told(cause) from None


def _value(
    setting: Setting, given: Any, before: Any, wording: Wording, path: str
) -> Any:
    """Return the value of a setting, given as a file or a command holds it."""
    value = given
    try:
        if setting.read is not None:
            value = setting.read(given)
    except InputError as cause:
        raise wording.told(cause) from None
    except (TypeError, ValueError):
        is_allowed = False
    else:
        if is_dataclass(before) and isinstance(value, Mapping):
            return with_settings(before, value, wording, f"{path}.")
        is_allowed = setting.allowed.holds(value)
    if not is_allowed:
        raise ConfigError(
            f"{wording.name(path)} must be "
            f"{setting.allowed.written or setting.allowed.says}. "
            f"Got {shortened(value)} instead."
        )
    return value


def _unknown_key(path: str, allowed: Sequence[str], wording: Wording) -> ConfigError:
    near = difflib.get_close_matches(path.rpartition(".")[2], allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"Unknown key {path!r} in {wording.where}.{hint} Allowed: {', '.join(allowed)}."
    )


def shortened(value: Any) -> str:
    """Return a value as messages show it."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
