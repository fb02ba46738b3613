"""Texts that say nothing about a class, to find out what a model prefers.

They are scored by the same engine, prompt and strategy as any text. What comes back
goes to `classify.calibration.LabelCalibrator` as ``probes``.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from classify.errors import InputError

__all__ = ["content_free_texts", "domain_texts", "premise_texts", "probe_rows"]

_N_DOMAIN_TEXTS = 20


def content_free_texts() -> tuple[str, ...]:
    """Return the three texts without content of contextual calibration.

    One of them is empty, which as a user's text is refused as missing; so probes are
    encoded as rows, see `probe_rows`.

    References
    ----------
    Zhao et al., "Calibrate before use" (2021), section 4.

    Examples
    --------
    >>> content_free_texts()
    ('N/A', '[MASK]', '')
    """
    return ("N/A", "[MASK]", "")


def domain_texts(
    texts: Iterable[str], *, n: int = _N_DOMAIN_TEXTS, random_state: int | None = None
) -> tuple[str, ...]:
    """Return texts of random words of the domain, for domain-context calibration.

    Each is L words drawn with replacement from all words of `texts`, in lower case and
    ended by `` .``, where L is the mean number of words of a text, rounded.

    Parameters
    ----------
    texts : iterable of str
        Texts of the domain; no labels are needed.
    n : int, default=20
        How many to make; 20 is the paper's number.
    random_state : int or None, default=None
        Seed of the draw. None stands for 0, so that equal texts give equal probes.

    Returns
    -------
    tuple of str, length n

    Raises
    ------
    InputError
        The texts hold no word.

    References
    ----------
    Fei et al., "Mitigating label biases for in-context learning" (2023), section 4.

    Examples
    --------
    >>> domain_texts(["Where is my parcel", "Parcel lost again today"], n=1)
    ('again lost parcel my .',)
    """
    words_of = [text.lower().split() for text in texts]
    words = [word for each in words_of for word in each]
    if not words:
        raise InputError(
            "Domain probes are made of the words of texts, and the given texts contain "
            "none: pass some texts of the domain."
        )
    length = max(1, round(len(words) / len(words_of)))
    draw = np.random.default_rng(0 if random_state is None else random_state)
    chosen = draw.integers(len(words), size=(n, length))
    return tuple(" ".join([*(words[at] for at in row), "."]) for row in chosen)


def premise_texts(premise: str = "") -> tuple[str, ...]:
    """Return the text of a prompt whose subject is left out, for the PMI score.

    Parameters
    ----------
    premise : str, default=""
        What stands in place of the text: nothing, or a phrase of the domain such as
        ``"This review is"``.

    References
    ----------
    Holtzman et al., "Surface form competition" (2021), section 3.

    Examples
    --------
    >>> premise_texts()
    ('',)
    """
    return (premise,)


def probe_rows(
    texts: Sequence[str], fields: Sequence[str]
) -> tuple[dict[str, str], ...]:
    """Return a row for each probe, with the probe in every column that the prompt has.

    Parameters
    ----------
    texts : sequence of str
    fields : sequence of str
        `PromptTemplate.fields`.

    Returns
    -------
    tuple of dict, length of texts
        Rows for `RowEncoder.encode`, where an empty text is allowed.

    Examples
    --------
    >>> probe_rows(["N/A"], ["title", "text"])
    ({'title': 'N/A', 'text': 'N/A'},)
    """
    return tuple(dict.fromkeys(fields, text) for text in texts)
