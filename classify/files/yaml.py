"""YAML files written by people, and messages about their mistakes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from classify.errors import ConfigError, InputError

__all__ = ["check_declared", "read_yaml"]


class _UniqueKeyLoader(yaml.SafeLoader):
    """Plain values only; a key that occurs twice is an error, not the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} occurs twice (first in line {seen[key]})",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path, what: str) -> Any:
    """Return the plain values in a YAML file.

    Parameters
    ----------
    path : str or Path
    what : str
        What to call the file in a sentence.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML (the line is named), or repeats a key.
    """
    named = f"{what} {str(path)!r}"
    try:
        loader = _UniqueKeyLoader(Path(path).read_text(encoding="utf-8"))
        return loader.get_single_data()
    except FileNotFoundError:
        raise ConfigError(f"There is no {named}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The {named} is not UTF-8: byte {error.start} cannot be decoded. Save it "
            "as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"The {named} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"The {named} is not YAML{line}: {problem}. Text with ': ', '#' or braces "
            "in it needs quotes."
        ) from None


def check_declared(labels: Any) -> None:
    """Raise InputError if YAML has read a label or word as something else than text."""
    for name in _names_of(labels):
        if isinstance(name, bool):
            spelled = "yes, on or true" if name else "no, off or false"
            raise InputError(
                f"a label or word is a boolean: YAML reads {spelled} so. Put it in "
                f'quotes, such as "{spelled.partition(",")[0]}".'
            )
        if not isinstance(name, str | Mapping):
            raise InputError(
                f"a label or word is {name!r}, which is not a string. Put it in "
                "quotes, "
                f'such as "{name}".'
            )


def _names_of(value: Any) -> list[Any]:
    """Return the names and words in a declaration of labels, of whatever type."""
    if isinstance(value, Mapping):
        entries = [*value.values()]
        names = [*value]
    elif isinstance(value, list | tuple):
        entries, names = [], []
        for item in value:
            if isinstance(item, Mapping) and "name" in item:
                names.append(item["name"])
                entries.append(item)
            elif isinstance(item, Mapping):
                names.extend(item)
                entries.extend(item.values())
            else:
                names.append(getattr(item, "name", item))
    else:
        return []
    for entry in entries:
        words = entry.get("words") if isinstance(entry, Mapping) else entry
        names.extend(words if isinstance(words, list | tuple) else ())
    return names
