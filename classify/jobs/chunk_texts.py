"""The texts of a chunk to score: rows, their candidate labels, their keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from classify.errors import InputError
from classify.jobs.job import RowColumns
from classify.jobs.score_records import text_keys
from classify.labels import LabelSet
from classify.rows.encoding import Row, candidate_sets, columns_of
from classify.rows.from_cells import candidates_of_cells
from classify.rows.scorer import Scorer
from classify.tables.chunk import Chunk

__all__ = ["ChunkTexts"]


@dataclass(frozen=True, eq=False)
class ChunkTexts:
    """The readable rows of a chunk, as a model is asked about them.

    Attributes
    ----------
    rows : list of mapping or InputError
        The prompt's columns of each row, or the reason why it cannot be used.
    candidates : list of LabelSet or InputError, or None
        The labels of each; None: all for every row.
    keys : list of bytes
        Two texts with one key have the same scores.
    declared : LabelSet or None
    """

    rows: Sequence[Row | InputError]
    candidates: Sequence[LabelSet | InputError] | None
    keys: list[bytes]
    declared: LabelSet | None

    @classmethod
    def of(
        cls, chunk: Chunk, scorer: Scorer, columns: RowColumns, digest: bytes
    ) -> "ChunkTexts":
        """Take what is needed out of a chunk.

        Parameters
        ----------
        chunk : Chunk
        scorer : Scorer
        columns : RowColumns
        digest : bytes
            Of everything that scores depend on besides a row's own fields and
            candidates.
        """
        rows = columns.rows(chunk, scorer.fields)
        cells = [() if isinstance(row, InputError) else row.values() for row in rows]
        if columns.labels is None:
            keys = text_keys(digest, [tuple(each) for each in cells])
            return cls(rows, None, keys, scorer.declared)
        listed = candidates_of_cells(chunk.cells(columns.labels), columns.labels)
        candidates = candidate_sets(listed, scorer.declared)
        assert candidates is not None, "they are listed"
        names = [
            () if isinstance(labels, InputError) else labels.names
            for labels in candidates
        ]
        keys = text_keys(digest, [tuple(each) for each in cells], names)
        return cls(rows, candidates, keys, scorer.declared)

    @cached_property
    def errors(self) -> dict[int, str]:
        """Positions of the rows that cannot be asked, and why."""
        errors = {}
        for at, row in enumerate(self.rows):
            labels = None if self.candidates is None else self.candidates[at]
            for problem in (labels, row):
                if isinstance(problem, InputError):
                    errors[at] = str(problem)
        return errors

    @property
    def classes(self) -> list[str]:
        """The labels of all rows, sorted."""
        return columns_of(self.candidates, self.declared)

    def by_classes(self, rows: list[int]) -> dict[tuple[str, ...], list[int]]:
        """Return positions of rows by the labels that they are scored among, sorted."""
        if self.candidates is None:
            return {tuple(self.classes): rows} if rows else {}
        groups: dict[tuple[str, ...], list[int]] = {}
        for at in rows:
            labels = self.candidates[at]
            assert isinstance(labels, LabelSet), "a row without labels is an error"
            groups.setdefault(tuple(sorted(labels.names)), []).append(at)
        return groups
