"""Few-shot prompts: which rows of a table are shown with a text as solved examples."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from classify.errors import LabelError, PromptError
from classify.labels import LabelSet
from classify.parameters import settings_of
from classify.prompts.example_table import Example, ExampleTable
from classify.prompts.template import PromptTemplate
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

__all__ = ["ExampleChooser", "check_examples", "example_settings"]

_Row: TypeAlias = Mapping[str, str]
# Rows that are compared with all examples at once.
_COMPARED_TOGETHER = 64


def example_settings(recipe: PromptTemplate) -> dict[str, Any]:
    """Return the settings that choose examples of a table; none without a table."""
    if not isinstance(recipe.examples, ExampleTable):
        return {}
    names = [name for name in settings_of(type(recipe)) if "example" in name]
    settings = {name: getattr(recipe, name) for name in names}
    return settings | {"examples": recipe.examples.digest}


def check_examples(recipe: PromptTemplate, labels: LabelSet) -> None:
    """Raise LabelError if a table of examples has a label that is not declared."""
    for each in recipe.ensemble:
        check_examples(each, labels)
    for example in recipe.table_examples:
        if labels.find(example.label) is None:
            raise LabelError(
                f"{_source(recipe)} has an example of an unknown label: "
                f"{labels.unknown(example.label)} Correct the cell, or empty it to "
                "leave the example out."
            )


class ExampleChooser:
    """Chooses the examples that are shown with a row: never the row itself.

    Texts are the same if they are so in lower case, in the Unicode normal form NFKC,
    whatever the white space.

    Parameters
    ----------
    recipe : PromptTemplate
    tokenizer : Tokenizer
        Counts the tokens of examples.
    labels : LabelSet
        Examples of other labels are not shown.

    Attributes
    ----------
    usual : tuple of Example
        Those that are shown with all texts but themselves; none where each text has
        its own.

    Raises
    ------
    PromptError
        None of the examples has one of the labels, or fits.
    """

    def __init__(
        self, recipe: PromptTemplate, tokenizer: Tokenizer, labels: LabelSet
    ) -> None:
        self._recipe, self._labels = recipe, labels
        unique: dict[str, Example] = {}
        for example in recipe.table_examples:
            if labels.find(example.label) is not None:
                unique.setdefault(self._key(example.row), example)
        if not unique:
            raise PromptError(
                f"{_source(recipe)} has no example of the labels {labels.listed}."
            )
        self._keys, self._pool = list(unique), list(unique.values())
        self._n_tokens = self._counted(tokenizer)
        self._order: Sequence[int] = ()
        self.usual: tuple[Example, ...] = ()
        if recipe.example_choice != "nearest":
            self._order = self._drawn()
            # Shown with nearly all rows, so that their prompts begin alike.
            self.usual = self._first(self._order, without="")
            self._own_keys = {self._key(each.row) for each in self.usual}
        else:
            # Kept out of `import classify`.
            from sklearn.feature_extraction.text import TfidfVectorizer

            # Parts of words: some scripts put no spaces between words.
            self._vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
            self._vectors = self._vectorizer.fit_transform(self._keys).T.tocsr()

    @property
    def n_rows(self) -> int:
        """Rows that examples are chosen from: each text once."""
        return len(self._pool)

    def choose(self, rows: Sequence[_Row]) -> list[tuple[Example, ...]]:
        """Return the examples that are shown with each row, in order."""
        keys = [self._key(row) for row in rows]
        if self._order:
            return [
                self._first(self._order, key) if key in self._own_keys else self.usual
                for key in keys
            ]
        found: list[tuple[Example, ...]] = []
        for start in range(0, len(keys), _COMPARED_TOGETHER):
            some = keys[start : start + _COMPARED_TOGETHER]
            similar = (self._vectorizer.transform(some) @ self._vectors).toarray()
            for key, order in zip(
                some, (-similar).argsort(axis=1, kind="stable"), strict=True
            ):
                # The nearest stands next to the text.
                found.append(self._first(order.tolist(), key)[::-1])
        return found

    def first(self, n: int, examples: Sequence[Example]) -> Sequence[Example]:
        """Return those of a row's examples that it would get if it got `n`."""
        is_reversed = self._recipe.example_choice == "nearest"
        return examples[len(examples) - n :] if is_reversed else examples[:n]

    def _key(self, row: _Row) -> str:
        """Return what distinguishes a row from others."""
        shown = (
            row["text"]
            if "text" in self._recipe.fields
            else " ".join(row[name] for name in self._recipe.fields)
        )
        return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())

    def _counted(self, tokenizer: Tokenizer) -> list[int]:
        """Return how many tokens each example has, or raise PromptError."""
        texts = [[*each.row.values(), each.label] for each in self._pool]
        counts = [
            len(token_ids)
            for token_ids in tokenizer.encode(
                [[Segment(" ".join(each), is_data=True)] for each in texts]
            )
        ]
        most = self._recipe.max_example_tokens
        if min(counts) > most:
            raise PromptError(
                f"None of the examples in {_name(self._recipe)} fits into "
                f"{parameter('max_example_tokens', most)}: the shortest has "
                f"{min(counts)} tokens. Allow more, or give shorter examples."
            )
        return counts

    def _drawn(self) -> list[int]:
        """Return the examples in the order in which they are taken."""
        rng = np.random.default_rng(self._recipe.example_seed)
        if self._recipe.example_choice == "random":
            drawn: list[int] = rng.permutation(len(self._pool)).tolist()
            return drawn
        names = np.array([self._labels.find(each.label) for each in self._pool])
        groups = [
            rng.permutation(np.flatnonzero(names == name)).tolist()
            for name in self._labels.names
        ]
        order: list[int] = []
        for at in range(max(map(len, groups))):
            # One of each label, in an order of its own.
            once = [each[at] for each in groups if at < len(each)]
            order += rng.permutation(once).tolist()
        return order

    def _first(self, order: Sequence[int], without: str) -> tuple[Example, ...]:
        """Return the first examples that fit, without a row of this key."""
        taken: list[Example] = []
        left = self._recipe.max_example_tokens
        for at in order:
            if self._keys[at] == without or self._n_tokens[at] > left:
                continue
            taken.append(self._pool[at])
            left -= self._n_tokens[at]
            if len(taken) == self._recipe.n_examples:
                break
        return tuple(taken)


def _name(recipe: PromptTemplate) -> str:
    assert isinstance(recipe.examples, ExampleTable), "it chooses examples"
    return recipe.examples.name


def _source(recipe: PromptTemplate) -> str:
    name = _name(recipe)
    return name[0].upper() + name[1:]
