"""A job for tests of its directory: what it is, and parts that are never the same."""

import re

import pytest

from classify.errors import DataError
from classify.jobs.directory import JobDirectory

MANIFEST = {
    "fingerprint": {"model": "demo@main", "labels": "a, b"},
    "inputs": [{"path": "a.csv", "size": 120, "digest": "sha256:1"}],
    "output": {"format": "csv"},
    "versions": {"torch": "2.10"},
    "part_rows": 2048,
}
RECORD = {"n_rows": 3, "labels": {"ü": 2}, "share": 0.5}


def begin(folder, manifest=MANIFEST, **options):
    return JobDirectory.open(folder, manifest, part_suffix=".csv", **options)


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def content(index):
    """Return the files that part `index` has in these tests, up to 0.2 MB."""
    data = f"{index},".encode() * (index * 7919 % 50_000)
    return data, b"" if index % 3 else f"{index},bad\n".encode()


def add(job, *indices):
    for index in indices:
        job.add_part(index, *content(index), {"index": index})


def names(folder):
    return sorted(path.name for path in folder.iterdir())
