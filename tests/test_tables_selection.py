"""Some rows of a table: which ones, in which order, from where on."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.errors import ConfigError, DataError
from classify.tables import joined, open_table, parse_shard, select_rows
from classify.tables.csv_file import CsvFile
from classify.tables.csv_records import CsvDialect
from classify.tables.sources import StreamSource
from classify.tables.text_table import csv_table

N_ROWS = 23


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table in which every fifth row cannot be read."""
    path = tmp_path_factory.mktemp("selection") / "in.csv"
    lines = [f"{n}" if n % 5 == 2 else f"{n},x" for n in range(N_ROWS)]
    path.write_text("n,x\n" + "\n".join(lines) + "\n")
    return open_table(path)


def numbers_of(table, n_rows=4, start=0):
    """Return the rows of a table, and check that its chunks are well formed."""
    chunks = list(table.chunks(n_rows, start=start))
    assert [each.n_rows for each in chunks[:-1]] == [n_rows] * (len(chunks) - 1)
    assert all(0 < each.n_rows <= n_rows for each in chunks)
    chunk = joined([table.no_rows(), *chunks])
    assert chunk.cells("n") == list(map(str, chunk.numbers.tolist()))
    assert all(number % 5 != 2 for number in chunk.numbers)
    bad = [each.number for each in chunk.unreadable]
    assert all(number % 5 == 2 for number in bad)
    return sorted([*chunk.numbers.tolist(), *bad])


counts = st.none() | st.integers(1, 30)
shards = st.none() | st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.integers(1, n), st.just(n))
)


@given(
    limit=counts,
    sample=counts,
    shard=shards,
    seed=st.integers(0, 3),
    n_rows=st.integers(1, 9),
    start=st.integers(0, 25),
)
@settings(max_examples=300)
def test_limit_then_sample_then_shard(table, limit, sample, shard, seed, n_rows, start):
    rows = np.arange(min(limit or N_ROWS, N_ROWS))
    if sample is not None and sample < len(rows):
        drawn = np.random.default_rng(seed).choice(len(rows), sample, replace=False)
        rows = np.array(sorted(drawn))
    if shard is not None:
        part, n_parts = shard
        rows = rows[len(rows) * (part - 1) // n_parts : len(rows) * part // n_parts]
    selected = select_rows(table, limit=limit, sample=sample, shard=shard, seed=seed)
    assert selected.n_rows == len(rows)
    assert numbers_of(selected, n_rows) == rows.tolist()
    assert numbers_of(selected, n_rows, start) == rows[start:].tolist()
    assert (selected.columns, selected.inputs()) == (table.columns, table.inputs())


@pytest.mark.parametrize("n_parts", [1, 2, 4, 7, 30])
def test_shards_are_the_whole(table, n_parts):
    shards = [
        numbers_of(select_rows(table, shard=(part, n_parts)))
        for part in range(1, n_parts + 1)
    ]
    assert [number for each in shards for number in each] == list(range(N_ROWS))
    sizes = {len(each) for each in shards}
    assert max(sizes) - min(sizes) <= 1


def test_other_seeds_draw_other_rows(table):
    draws = {
        tuple(numbers_of(select_rows(table, sample=8, seed=seed))) for seed in range(9)
    }
    assert len(draws) > 5


def test_frames_can_be_selected_from():
    frame = pd.DataFrame({"n": range(10)})
    selected = select_rows(open_table(frame), limit=7, sample=3, seed=1)
    chunk = joined(list(selected.chunks(2)))
    assert chunk.cells("n") == chunk.numbers.tolist()
    assert selected.n_rows == 3


def stream():
    source = StreamSource("-", io.BytesIO(b"n\n0\n1\n2\n3\n"), "stdin", is_ours=False)
    return csv_table([CsvFile(source, CsvDialect(), encoding="utf-8")])


def test_a_stream_has_first_rows_only():
    limited = select_rows(stream(), limit=3)
    assert limited.n_rows is None
    assert [each.cells("n") for each in limited.chunks(2)] == [["0", "1"], ["2"]]
    for option, wish in (("sample", {"sample": 2}), ("shard", {"shard": (1, 2)})):
        with raises(
            f"{option} needs to know how many rows there are, which stdin does not "
            "tell: save it to a file first, or use limit."
        ):
            select_rows(stream(), **wish)


def test_selections_that_cannot_be(table):
    for option in ("limit", "sample"):
        with raises(f"{option} must be at least 1. Got 0 instead.", ConfigError):
            select_rows(table, **{option: 0})
    for text in ("3/2", "0/2"):
        with raises(
            f"shard must name one of the parts, from 1 to 2. Got {text} instead.",
            ConfigError,
        ):
            parse_shard(text)
    with raises(
        "shard must be two numbers, such as 2/8 for the second of eight parts. Got "
        "'2 of 8' instead.",
        ConfigError,
    ):
        parse_shard("2 of 8")
    assert parse_shard(" 2 / 8 ") == (2, 8)
