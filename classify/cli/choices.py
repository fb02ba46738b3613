"""The values of options that have a few: listed in errors, completed by a shell."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches

from classify.errors import ConfigError

__all__ = ["CHOICES", "check_choice", "completion", "listed"]

# No other value is allowed. Written out here, since the modules that know them take
# seconds to import; a test compares them.
CHOICES = {
    "engine": ("auto", "transformers", "vllm", "server"),
    "input_format": ("csv", "tsv", "jsonl", "parquet"),
    "method": (
        *("auto", "temperature", "bias", "affine", "vector", "matrix", "isotonic"),
        *("prior_matching", "batch", "content_free", "domain", "pmi", "none"),
    ),
    "options": ("auto", "inline", "lines", "verbatim", "none"),
    "output_format": ("csv", "tsv", "jsonl", "parquet"),
    "strategy": ("exact", "generate"),
    "too_long": ("truncate", "error"),
}
# Others are allowed too.
_COMMON = {
    "batch_size": ("auto",),
    "device": ("auto", "cpu", "cuda", "mps"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "encoding": ("utf-8", "utf-16", "cp1252", "latin-1"),
    "model": ("demo",),
    "prior": ("uniform", "labels"),
    "ray": ("auto", "local"),
    "speculation": ("labels", "ngram", "suffix", "mtp"),
}


def completion(name: str) -> Callable[[str], Iterator[str]]:
    """Return what completes the values of an option, for ``autocompletion=``."""
    values = (CHOICES | _COMMON)[name]

    def complete(incomplete: str) -> Iterator[str]:
        return (value for value in values if value.startswith(incomplete))

    return complete


def check_choice(name: str, value: object, *, shown: str) -> None:
    """Raise ConfigError if an option has no such value; the sentence names `shown`.

    Examples
    --------
    >>> check_choice("strategy", "exact", shown="--strategy")
    >>> check_choice("strategy", "exakt", shown="--strategy")
    Traceback (most recent call last):
    ...
    classify.errors.ConfigError: --strategy must be exact or generate. Got 'exakt' \
instead. Did you mean 'exact'?
    """
    allowed = CHOICES.get(name)
    if allowed is None or value is None or str(value).strip().lower() in allowed:
        return
    near = get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"{shown} must be {listed(allowed)}. Got {value!r} instead.{hint}"
    )


def listed(values: tuple[str, ...]) -> str:
    """Return values as a sentence lists them.

    Examples
    --------
    >>> listed(("csv", "tsv", "jsonl"))
    'csv, tsv or jsonl'
    """
    *some, last = values
    return f"{', '.join(some)} or {last}"
