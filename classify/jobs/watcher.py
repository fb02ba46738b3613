"""Who is told how a job goes."""

from classify.jobs.summary import Summary

__all__ = ["JobWatcher"]


class JobWatcher:
    """Is told how a job goes; this one does nothing with it."""

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Rows of the job, as far as known, and how many an earlier run finished."""

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Rows finished, and prompt tokens read, since the last call."""

    def reading(self, n_texts: int) -> None:
        """Texts of which the model has read something, and that are not finished."""

    def stopping(self, n_texts: int) -> None:
        """Texts that are still to be finished, since the job was asked to stop."""

    def finished(self, summary: Summary) -> None:
        """Called with the counts of all rows that are handed out or saved by now."""
