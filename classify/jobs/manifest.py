"""What differs between a job as it began and as it is resumed, in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from classify.scoring.fingerprint import DATE, differing_keys

__all__ = ["dates", "differences", "other_versions"]

# May differ between the runs of one job: the first wins, or all are kept.
_FREE_KEYS = ("part_rows", "versions")
_NOTHING = "nothing"


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Return what differs from the job as it was started, in words.

    Parameters
    ----------
    saved, present : mapping
        Manifests. ``fingerprint`` and other sections are mappings; ``inputs`` is a
        list of mappings with ``path``, ``size`` and ``digest``; ``questions`` has the
        fingerprint of each question with a name. ``part_rows`` and
        ``versions`` are not compared.

    Examples
    --------
    >>> differences({"fingerprint": {"model": "a"}}, {"fingerprint": {"model": "b"}})
    ['model: was a, now b']
    """
    # Tuples become lists, as they are in the file.
    present = json.loads(json.dumps(present))
    found: list[str] = []
    for key in dict.fromkeys([*saved, *present]):
        was, now = saved.get(key), present.get(key)
        if key in _FREE_KEYS or was == now:
            continue
        if key == "questions":
            found += _question_differences(was or {}, now or {})
        elif key == "inputs" and isinstance(was, list) and isinstance(now, list):
            found += _input_differences(was, now)
        elif isinstance(was, dict) and isinstance(now, dict):
            # Keys of a fingerprint are known by their own names.
            section = "" if key == "fingerprint" else f"{key} "
            found += [
                _changed(f"{section}{name}", was.get(name), now.get(name))
                for name in differing_keys(was, now)
            ]
        else:
            found.append(_changed(key, was, now))
    return found


def other_versions(
    saved: Sequence[Mapping[str, str]], present: Mapping[str, str]
) -> list[str]:
    """Return which packages had another version in earlier runs, in words.

    Parameters
    ----------
    saved : sequence of mappings of str to str
        The versions of each earlier run.
    present : mapping of str to str

    Examples
    --------
    >>> other_versions([{"torch": "2.10"}], {"torch": "2.11"})
    ['torch was 2.10 and is now 2.11']
    """
    sentences = []
    for name in dict.fromkeys([*(name for each in saved for name in each), *present]):
        now = present.get(name, _NOTHING)
        earlier = dict.fromkeys(each.get(name, _NOTHING) for each in saved)
        was = [version for version in earlier if version != now]
        if was:
            sentences.append(f"{name} was {', '.join(was)} and is now {now}")
    return sentences


def dates(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the date that each question's prompt writes as today's, by its name."""
    of_questions = {"": manifest["fingerprint"], **manifest.get("questions", {})}
    return {name: each.get(DATE, "") for name, each in of_questions.items()}


def _question_differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for question in [name for name in was if name in now]:
        before, after = was[question], now[question]
        found += [
            _changed(f"{question}.{key}", before.get(key), after.get(key))
            for key in differing_keys(before, after)
        ]
    return found


def _input_differences(was: list[Any], now: list[Any]) -> list[str]:
    paths_before = [each["path"] for each in was]
    paths_now = [each["path"] for each in now]
    if paths_before != paths_now:
        return [_changed("inputs", paths_before, paths_now)]
    return [
        f"input {before['path']!r}: its contents changed (size {before['size']} → "
        f"{after['size']})"
        for before, after in zip(was, now, strict=True)
        if before != after
    ]


def _changed(name: str, was: Any, now: Any) -> str:
    return f"{name}: was {_shown(was)}, now {_shown(now)}"


def _shown(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
