"""Names of labels as data has them, and how they are matched."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import cache
from typing import Any

from classify.errors import LabelError

__all__ = [
    "check_string",
    "normal_form",
    "plain",
    "positions",
    "same_form",
    "suggestion",
]

# Scripts with letters that look the same.
_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK"})


def plain(value: Any) -> Any:
    """Return a member of an Enum as its value, and NumPy's scalars as Python's.

    Examples
    --------
    >>> class Topic(str, Enum):
    ...     BILLING = "billing"
    >>> plain(Topic.BILLING), plain("billing")
    ('billing', 'billing')
    """
    if isinstance(value, Enum) and not isinstance(value, str):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)  # str(value) would be 'Topic.BILLING'
    # Scalars only. NumPy is not imported for labels alone.
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if is_scalar else value


def check_string(value: object, what: str) -> None:
    """Raise LabelError unless a value can be a label's name, or a word of it."""
    if not isinstance(value, str):
        hint = " Write it in quotes." if isinstance(value, bool | int | float) else ""
        raise LabelError(
            f"{what} must be a string. Got {value!r} of type {type(value).__name__} "
            f"instead.{hint}"
        )
    if _is_cut(value):
        raise LabelError(
            f"{what} must not contain a lone surrogate: \\ud800 to \\udfff must come "
            f"in pairs. Got {value!r} instead."
        )
    if "\0" in value:  # NumPy drops it at the end of a string
        raise LabelError(
            f"{what} must not hold the character U+0000. Got {value!r} instead."
        )
    if not value.strip():
        raise LabelError(f"{what} must not be empty. Got {value!r} instead.")
    if value != value.strip():
        raise LabelError(
            f"{what} must have no white space around it. Got {value!r} instead: the "
            "space before an answer is put there by the prompt."
        )


def normal_form(name: str) -> str:
    r"""Return a name as all its equivalent spellings have it: Unicode's form NFC.

    Examples
    --------
    >>> normal_form("cafe\u0301") == normal_form("caf\u00e9")
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def same_form(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that look the same, if there are any."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_visible_form(name), name)
        if other != name:
            return other, name
    return None


def _visible_form(name: str) -> str:
    if name.isascii():
        return name
    visible = (each for each in name if unicodedata.category(each) != "Cf")
    return normal_form("".join(visible))


def positions(names: Iterable[object], known: Iterable[object]) -> list[int | None]:
    r"""Return where each name stands among known ones, in whatever normal form.

    None: it is not among them.

    Examples
    --------
    >>> positions(["bar", "cafe\u0301", "Bar"], ["bar", "caf\u00e9"])
    [0, 1, None]
    """
    at_name = {name: at for at, name in enumerate(known)}
    at_form = {
        normal_form(name): at for name, at in at_name.items() if isinstance(name, str)
    }

    @cache
    def find(name: object) -> int | None:
        if name in at_name or not isinstance(name, str):
            return at_name.get(name)
        return at_form.get(normal_form(name))

    return [find(name) for name in names]


def suggestion(name: object, names: Sequence[str]) -> str:
    r"""Return " Did you mean …?" for a name that is none of these, or "".

    Where the two look alike, it says in which character they differ.

    Examples
    --------
    >>> suggestion("Biling", ["billing", "shipping"])
    " Did you mean 'billing'?"
    >>> print(suggestion("not\u00a0paid", ["paid", "not paid"]).strip())
    Did you mean 'not paid'? Character 4 is U+00A0 (NO-BREAK SPACE), not U+0020 (SPACE).
    """
    given = str(name)
    same = [each for each in names if _looks_like(given, each)]
    near = same or difflib.get_close_matches(given, names, n=1)
    if not near:
        return ""
    difference = _difference(given, near[0]) if same else ""
    return f" Did you mean {str(near[0])!r}?{difference}"


def _is_cut(text: str) -> bool:
    """Return whether it holds half of a surrogate pair, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _looks_like(one: str, other: str) -> bool:
    """Whether names differ in case, width, blanks, invisible or foreign letters only.

    Letters of different scripts look alike often enough (Cyrillic and Latin a).
    """
    one, other = _skeleton(one), _skeleton(other)
    return len(one) == len(other) and all(
        a == b or len({_script(a), _script(b)} & _ALIKE) == 2
        for a, b in zip(one, other, strict=True)
    )


def _skeleton(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    kept = [
        each
        for each in text
        if each.isspace() or unicodedata.category(each) not in ("Cc", "Cf")
    ]
    return " ".join("".join(kept).split())


def _script(character: str) -> str:
    is_letter = unicodedata.category(character).startswith("L")
    return unicodedata.name(character, "").split(" ")[0] if is_letter else ""


def _difference(given: str, known: str) -> str:
    """Return in which character names differ, where that cannot be seen."""
    pairs = zip(f"{given}\0", f"{known}\0", strict=False)
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        return ""
    found, wanted = given[at : at + 1], known[at : at + 1]
    if all("!" <= each <= "~" for each in (found or "\0", wanted or "\0")):
        return ""
    if not found:
        return f" Character {at + 1}, {_named(wanted)}, is missing."
    end = f"not {_named(wanted)}" if wanted else "which does not belong there"
    return f" Character {at + 1} is {_named(found)}, {end}."


def _named(character: str) -> str:
    name = unicodedata.name(character, "a control character")
    return f"U+{ord(character):04X} ({name})"
