"""The exceptions of this package.

::

    ClassifyError
    ├── InputError (also ValueError)     something the caller can fix
    │   ├── LabelError                   labels, label words, token paths
    │   ├── PromptError                  templates, placeholders, rendered prompts
    │   │   └── PromptTooLongError       one text does not fit the model
    │   ├── DataError                    a file, a column, a row
    │   └── ConfigError                  a task file or an option
    ├── EngineError (also RuntimeError)  the model could not answer
    │   ├── AnswerError                  its answer for one text cannot be used
    │   ├── ModelLoadError               the model or tokenizer cannot be loaded
    │   ├── MissingDependencyError       an optional package is not installed
    │   └── ScriptEndedError             a FakeEngine has nothing left to say
    └── TooManyErrorsError               a job set more rows aside than it may

Every message says what is wrong with which value, what is allowed, and what to do.
"""

from typing import TypeAlias

from classify.distribution import NAME


class ClassifyError(Exception):
    """Base of every exception that this package raises on purpose."""


class InputError(ClassifyError, ValueError):
    """A value from the caller cannot be used; raised before any model call."""


class LabelError(InputError):
    """Labels, their words or their token paths contradict each other."""


class PromptError(InputError):
    """A prompt template cannot be used, or cannot be rendered for a row."""


class PromptTooLongError(PromptError):
    """A text does not fit the model's context together with its instructions."""


class DataError(InputError):
    """A file, a column or a row of data cannot be read."""


class ConfigError(InputError):
    """A task file or an option has a value that is not allowed."""


class EngineError(ClassifyError, RuntimeError):
    """The engine could not answer a request."""


class AnswerError(EngineError):
    """The answer for one text cannot be used; other texts are not affected."""


class ModelLoadError(EngineError):
    """A model or a tokenizer cannot be loaded from where it was named."""


class MissingDependencyError(EngineError):
    """An optional package is needed for what was asked, and is not installed."""


def missing_dependency(
    need: str, extra: str, *, note: str = ""
) -> MissingDependencyError:
    """Return the error for a package that is missing, with the command to install it.

    Parameters
    ----------
    need : str
        What needs which package, such as "Parquet files need the package pyarrow".
    extra : str
        The extra of this distribution that brings the package.
    note : str, default=""
        What follows the command, such as " on a machine with a GPU."

    Examples
    --------
    >>> print(missing_dependency("The server engine needs httpx", "server"))
    The server engine needs httpx, which is not installed. Install it with:
    pip install 'classify-lm[server]'
    """
    return MissingDependencyError(
        f"{need}, which is not installed. Install it with: "
        f"pip install '{NAME}[{extra}]'{note}"
    )


class ScriptEndedError(EngineError):
    """A scripted engine was asked more often than its script answers."""


class TooManyErrorsError(ClassifyError):
    """More rows of a job were set aside than it may set aside."""


RowError: TypeAlias = InputError | AnswerError
"""Why one row has no label; a job sets the row aside and continues."""


def first_line(error: BaseException) -> str:
    r"""Return the first line of another package's error, for use in our own message.

    Examples
    --------
    >>> first_line(ValueError("No such head.\nTraceback: …"))
    'No such head'
    """
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".:")
