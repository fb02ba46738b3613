"""YAML files that people write, and their mistakes."""

from pathlib import Path
from typing import Any

import yaml

from classify.errors import ConfigError

__all__ = ["read_yaml"]


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
