"""A job for tests of what it keeps: what it is, and parts that are never the same."""

import re
import sqlite3
from contextlib import closing

import pytest

from classify.errors import DataError
from classify.jobs.state import JobState

MANIFEST = {
    "fingerprint": {"model": "demo@main", "labels": "a, b"},
    "inputs": [{"path": "a.csv", "size": 120, "digest": "sha256:1"}],
    "output": {"format": "csv"},
    "versions": {"torch": "2.10"},
    "part_rows": 2048,
}
RECORD = {"n_rows": 3, "labels": {"ü": 2}, "share": 0.5}


def begin(folder, manifest=MANIFEST, **options):
    return JobState.open(folder, manifest, **options)


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def content(index):
    """Return what part `index` has in these tests, up to 0.2 MB."""
    data = f"{index},".encode() * (index * 7919 % 50_000)
    return data, b"" if index % 3 else f"{index},bad\n".encode()


def add(job, *indices):
    for index in indices:
        job.add_part(index, *content(index), {"index": index})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def n_parts(folder):
    """Return how many parts a job has finished, which another process may run."""
    uri = f"{(folder / 'job.sqlite').absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as database:
            return database.execute("SELECT count(*) FROM parts").fetchone()[0]
    except sqlite3.OperationalError:  # it is not made yet, or gone
        return 0


def sql(folder, statement, *values):
    """Change or read the file of a job that is closed."""
    with closing(sqlite3.connect(folder / "job.sqlite")) as database, database:
        return database.execute(statement, values).fetchall()
