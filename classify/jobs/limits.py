"""How many rows a job may set aside."""

from dataclasses import dataclass
from pathlib import Path

from classify.errors import ConfigError, TooManyErrorsError
from classify.jobs.summary import Summary
from classify.wording import parameter

__all__ = ["ErrorLimit"]


@dataclass(frozen=True)
class ErrorLimit:
    """A number of rows, or a share of all of them.

    Attributes
    ----------
    value : float
        A number from 0; or a share in [0, 1].
    is_share : bool
    """

    value: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> "ErrorLimit":
        """Read ``100`` or ``5%``.

        Examples
        --------
        >>> ErrorLimit.parse("100"), ErrorLimit.parse("5%")
        (ErrorLimit(value=100, is_share=False), ErrorLimit(value=0.05, is_share=True))
        """
        number = text.strip()
        if number.isdecimal():
            return cls(int(number))
        try:
            share = float(number.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not (number.endswith("%") and 0 <= share <= 1):
            raise ConfigError(
                f"{parameter('max_errors')} must be a number of rows, such as 100, or "
                f"a share of them, such as 5%. Got {text!r} instead."
            )
        return cls(share, is_share=True)

    def check(self, summary: Summary, n_rows: int | None, kept: Path | None) -> None:
        """Raise TooManyErrorsError if a job has set more rows aside.

        Parameters
        ----------
        summary : Summary
        n_rows : int or None
            All rows of the job; None while nobody knows, when no share can be told.
        kept : Path or None
            Where finished rows are kept.
        """
        n_bad = summary.n_set_aside
        if self.is_share and n_rows is None:
            return
        most = self.value * (n_rows or 0) if self.is_share else self.value
        if n_bad <= most:
            return
        reason, count = summary.reasons.most_common(1)[0]
        allowed = f"{self.value:.4g}" if not self.is_share else f"{self.value:.4%}"
        goes_on = (
            ""
            if kept is None
            else f" The rows finished so far are kept in {str(kept)!r}: fix the input "
            f"and start over with {parameter('restart', True)}, or allow more errors "
            "and run the job again to go on."
        )
        raise TooManyErrorsError(
            f"{n_bad:,} of {summary.n_rows:,} rows could not be classified, and "
            f"{parameter('max_errors')} allows {allowed}. {count:,} of them: "
            f"{reason}{goes_on}"
        )
