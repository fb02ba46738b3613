"""The score cache: what was put comes back, whole or not at all."""

import hashlib
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.errors import DataError, EngineError
from classify.jobs.database import Database
from classify.jobs.score_records import (
    PlacedScores,
    combine_scores,
    pack_scores,
    text_keys,
    unpack_scores,
)
from classify.jobs.store import ScoreStore, explaining
from classify.scoring import LabelLogprobs

ROOT = Path(__file__).parents[1]
ENTRY_BYTES = 64


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def key(number):
    return number.to_bytes(16, "big")


def opened(folder, max_bytes=None):
    return ScoreStore.at(folder, max_bytes=max_bytes)


def kept(store, numbers):
    """Return which of some keys have values, in order."""
    found = store.get_many([key(number) for number in numbers])
    return [number for number in numbers if key(number) in found]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "scores"


# Bytes by key


KEYS = st.integers(0, 8).map(key)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.lists(st.tuples(KEYS, st.binary(max_size=40)), max_size=5),
            st.just("reopen"),
        ),
        max_size=12,
    )
)
def test_it_is_a_dictionary_whose_keys_keep_their_first_value(steps):
    model = {}
    with tempfile.TemporaryDirectory() as folder, ScoreStore.temporary() as temporary:
        store = opened(folder)
        for step in steps:
            if step == "reopen":
                store.close()
                store = opened(folder)
            else:
                for name, value in step:
                    model.setdefault(name, value)
                store.put_many(step)
                temporary.put_many(step)
            asked = [*map(key, range(8)), key(99)]
            expected = {name: model[name] for name in asked if name in model}
            assert store.get_many(asked) == expected
            assert temporary.get_many(asked) == expected
        store.close()


def test_many_keys_in_one_question():
    values = {key(number): str(number).encode() for number in range(70_000)}
    with ScoreStore.temporary() as store:
        store.put_many(values.items())
        assert store.get_many([key(99_999), *values, key(70_000)]) == values
        assert store.get_many([]) == {}


def test_a_put_that_fails_puts_nothing():
    def items():
        yield key(0), b"value"
        raise KeyboardInterrupt

    with ScoreStore.temporary() as store:
        with pytest.raises(KeyboardInterrupt):
            store.put_many(items())
        with pytest.raises(TypeError):
            store.put_many([(key(0), b"value"), (key(1), None)])
        with pytest.raises(sqlite3.Error):
            store.put_many([(object(), b"value")])
        assert kept(store, [0, 1]) == []
        store.put_many([(key(1), b"value")])
        assert kept(store, [0, 1]) == [1]


def test_a_temporary_store_is_seen_by_nobody():
    with ScoreStore.temporary() as one, ScoreStore.temporary() as other:
        one.put_many([(key(0), b"value")])
        assert other.get_many([key(0)]) == {}


# Its size


@settings(max_examples=60)
@given(
    st.integers(100, 3000),
    st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=6), max_size=15),
)
def test_those_put_first_go_first(max_bytes, sizes):
    model = {}
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        with opened(folder, max_bytes) as store:
            for batch in sizes:
                items = [
                    (key(at), bytes(n)) for at, n in enumerate(batch, start=number)
                ]
                number += len(batch)
                store.put_many(items)
                model |= items
                size = sum(len(value) + ENTRY_BYTES for value in model.values())
                if size > max_bytes:
                    while size > max_bytes - max_bytes // 32:
                        size -= len(model.pop(next(iter(model)))) + ENTRY_BYTES
                assert store.get_many([key(at) for at in range(number)]) == model
        with opened(folder, max_bytes) as store:
            assert store.get_many([key(at) for at in range(number)]) == model


def test_the_file_stays_near_its_bound_and_shrinks_to_a_smaller_one(folder):
    most = 8_000_000
    with opened(folder, most) as store:
        for batch in range(20):
            store.put_many(
                (key(number), bytes(2_000))
                for number in range(batch * 500, batch * 500 + 500)
            )
        newest = kept(store, range(10_000))
    assert newest == list(range(newest[0], 10_000))
    file = folder / "scores.sqlite"
    # Of the bound, up to a 32nd and a batch may be free.
    assert most * 0.8 < len(newest) * 2_064 <= most
    assert file.stat().st_size < most * 1.3
    with opened(folder, most // 4) as store:
        fewer = kept(store, range(10_000))
    assert fewer == newest[-len(fewer) :]
    assert most / 4 * 0.9 < len(fewer) * 2_064 <= most / 4
    assert file.stat().st_size < most / 4 * 1.3


# Damage


def damage(folder, statement, *values):
    database = sqlite3.connect(folder / "scores.sqlite")
    with database:
        database.execute(statement, values)
    database.close()


def test_a_damaged_value_is_absent_and_may_be_put_again(folder, caplog):
    with opened(folder) as store:
        store.put_many([(key(number), b"value %d" % number) for number in range(4)])
    damage(folder, "UPDATE scores SET value = ? WHERE key >= ?", b"value \xff", key(2))
    folder_named = f"the folder {str(folder)!r}"
    with opened(folder) as store:
        assert kept(store, range(3)) == [0, 1]
        assert kept(store, range(4)) == [0, 1]
        assert caplog.messages == [
            f"Some scores in {folder_named} are damaged and will be computed again."
        ]
        store.put_many([(key(2), b"new")])
        assert store.get_many([key(2)]) == {key(2): b"new"}
    database = sqlite3.connect(folder / "scores.sqlite")
    size = "SELECT n_bytes - (SELECT sum(length(value) + 64) FROM scores) FROM size"
    assert database.execute(size).fetchone() == (0,)
    database.close()


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 5000, b"no" * 999])
def test_what_is_no_database(folder, content):
    folder.mkdir()
    (folder / "scores.sqlite").write_bytes(content)
    with raises(
        f"The score cache in the folder {str(folder)!r} is damaged (file is not a "
        "database). You can delete it: the scores will be computed again."
    ):
        opened(folder)
    assert (folder / "scores.sqlite").read_bytes() == content


def test_a_database_with_pages_missing(folder):
    with opened(folder) as store:
        store.put_many((key(number), bytes(5000)) for number in range(100))
    file = folder / "scores.sqlite"
    file.write_bytes(file.read_bytes()[: 4 * 32_768])
    message = (
        f"The score cache in the folder {str(folder)!r} is damaged (database disk "
        "image is malformed). You can delete it: the scores will be computed again."
    )
    with raises(message), opened(folder) as store:
        kept(store, range(100))


def test_a_database_of_another_program(folder):
    folder.mkdir()
    damage(folder, "CREATE TABLE scores (mine TEXT)")
    before = (folder / "scores.sqlite").read_bytes()
    with raises(
        f"The file 'scores.sqlite' in the folder {str(folder)!r} is a database of "
        "another program: name another folder for the scores, or delete that file if "
        "it is not needed."
    ):
        opened(folder)
    assert (folder / "scores.sqlite").read_bytes() == before


def test_a_store_of_another_version(folder):
    opened(folder).close()
    damage(folder, "PRAGMA user_version = 2")
    with raises(
        f"The score cache in the folder {str(folder)!r} is of version 2, and this "
        "is version 1: name another folder, or delete this one. You can delete it: the "
        "scores will be computed again."
    ):
        opened(folder)


# Disks


def connection(folder, **options):
    """Return a connection as a store may have it, with limits of its own."""
    return sqlite3.connect(
        f"{(folder / 'scores.sqlite').as_uri()}{options.pop('query', '')}",
        uri=True,
        isolation_level=None,
        **options,
    )


def store_on(connection):
    place = "the folder 'x'"
    return ScoreStore(
        Database(connection, explaining(place)), place=place, max_bytes=None
    )


def test_a_full_disk(folder):
    with opened(folder) as store:
        store.put_many([(key(0), b"value")])
    limited = connection(folder)
    limited.execute("PRAGMA max_page_count = 9")
    with store_on(limited) as store:
        with raises(
            "The disk is full: no more scores fit in the folder 'x'. Free some space "
            "and run the same command again."
        ):
            store.put_many((key(number), bytes(50_000)) for number in range(1, 50))
        assert kept(store, range(50)) == [0]
        store.put_many([(key(1), b"value")])
        assert kept(store, range(50)) == [0, 1]


def test_a_disk_that_may_only_be_read(folder):
    opened(folder).close()
    limited = connection(folder, query="?mode=ro")
    with (
        store_on(limited) as store,
        raises(
            "The score cache in the folder 'x' cannot be read or written: attempt "
            "to write a readonly database. Check whether the disk is full, and whether "
            "you have permission to write there; then run the same command again."
        ),
    ):
        store.put_many([(key(0), b"value")])


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "scores"
    with raises(
        f"The score cache cannot be in the folder {str(folder)!r}: Not a directory."
        " Name a folder that you may write to."
    ):
        opened(folder)


# Several at once


def test_a_writer_that_does_not_end(folder):
    opened(folder).close()
    other = connection(folder)
    other.execute("BEGIN IMMEDIATE")
    impatient = connection(folder, timeout=0.01)
    with store_on(impatient) as store:
        with raises(
            "The score cache in the folder 'x' is in use: another process has kept "
            "it for more than 60 seconds. Wait for it, or name another folder."
        ):
            store.put_many([(key(0), b"value")])
        # Reading waits for nobody.
        assert kept(store, [0]) == []
        other.execute("ROLLBACK")
        other.close()
        store.put_many([(key(0), b"value")])
        assert kept(store, [0]) == [0]


def test_threads_take_turns():
    with ScoreStore.temporary() as store:

        def put(start):
            for number in range(start, start + 50):
                store.put_many([(key(number), b"%d" % number), (key(999), b"same")])
                assert key(number) in store.get_many([key(number)])

        threads = [
            threading.Thread(target=put, args=(start,)) for start in (0, 50, 100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept(store, range(160)) == list(range(150))


WRITER = """
import sys
from tests.test_job_store import key, opened

folder, first = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with opened(folder) as store:
    for number in range(first, first + 1_000_000):
        store.put_many([(key(number), b"%d" % number * 50) for _ in range(20)])
        print(number, flush=True)
"""


def test_processes_share_a_folder_and_a_kill_loses_nothing(folder):
    starts = [0, 10_000_000, 20_000_000]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(start)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in starts
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    # They make the folder, all at the same moment.
    for writer in writers:
        print("go", file=writer.stdin, flush=True)
    told = []
    for writer in writers:
        told += [int(writer.stdout.readline()) for _ in range(30)]
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        # A last line may be cut off. `communicate` would pass over what is buffered.
        told += map(int, writer.stdout.read().split("\n")[:-1])
        writer.stdin.close()
        writer.stdout.close()
        writer.wait()
    with opened(folder) as store:
        found = store.get_many([key(number) for number in told])
        assert found == {key(number): b"%d" % number * 50 for number in told}


# Keys


def text_key(digest, fields, candidates=None):
    [key] = text_keys(digest, [fields], [candidates])
    return key


def test_a_key_is_a_digest_of_all_its_parts():
    hashed = hashlib.blake2b(
        b"\x05\0\0\0\0\0\0\0modelGr\xc3\xbc\xc3\x9fe\xff\xff\xfea\xffb\xff",
        digest_size=16,
    )
    assert text_key(b"model", ["Grüße", ""], ["a", "b"]) == hashed.digest()


FIELDS = st.lists(st.text("a\0é\ud800\udcff,", max_size=3), max_size=3)
PARTS = st.tuples(st.binary(max_size=2), FIELDS, st.none() | FIELDS)


@given(PARTS, PARTS)
def test_different_parts_have_different_keys(one, other):
    assert (text_key(*one) == text_key(*other)) == (one == other)


@given(st.lists(st.tuples(FIELDS, st.none() | FIELDS), max_size=4))
def test_many_keys_are_those_of_each(rows):
    fields = [row for row, _ in rows]
    assert text_keys(b"model", fields, [names for _, names in rows]) == [
        text_key(b"model", *row) for row in rows
    ]
    assert text_keys(b"model", iter(fields)) == [
        text_key(b"model", row) for row in fields
    ]


# Scores as bytes


def scores_of(values, classes):
    values = np.array(values, dtype=np.float64).reshape(-1, len(classes))
    numbers = np.arange(len(values))
    return LabelLogprobs(
        values=values,
        classes=np.array(classes, dtype=np.str_),
        lower=values - 0.5,
        upper=values + 0.25,
        unresolved=numbers / 8,
        truncated=numbers % 2 == 1,
        n_reads=numbers * 3 + 1,
        agreement=1 / (numbers + 1),
    )


def assert_same(found, expected):
    assert found.steps is None
    for name in vars(expected).keys() - {"text_scores", "reasoning"}:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype.kind == other.dtype.kind
        np.testing.assert_array_equal(
            one, other, err_msg=name, strict=name != "classes"
        )


LOGPROBS = st.floats(max_value=0, allow_nan=False)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(LOGPROBS, min_size=n, max_size=n), min_size=1, max_size=5
        )
    ),
    st.data(),
)
def test_scores_come_back_to_the_bit(values, data):
    classes = [f"ü{at}" for at in range(len(values[0]))]
    scores = scores_of(values, classes)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=6))
    packed = pack_scores(scores[rows])
    assert len(packed) == len(rows)
    found = unpack_scores(packed, classes)
    assert found.at.tolist() == list(range(len(rows)))
    assert_same(found.scores, scores[rows])
    # They may be written to, as those of an engine.
    found.scores.values[:] = 0


def test_the_layout_of_a_record():
    packed = pack_scores(scores_of([[-1, -np.inf], [-2, -3]], ["a", "b"])[[1]])
    labels = struct.pack("<I", zlib.crc32(b'["a", "b"]'))
    numbers = struct.pack("<6ddqd", -2, -3, -2.5, -3.5, -1.75, -2.75, 0.125, 4, 0.5)
    assert packed == [numbers + labels + struct.pack("<I", 1)]


def test_what_is_not_there_or_of_other_labels_is_left_out():
    scores = scores_of([[-1, -2], [-3, -4], [-5, -6]], ["a", "b"])
    one, two, three = pack_scores(scores)
    (other,) = pack_scores(scores_of([[-1, -2]], ["a", "c"]))
    (shorter,) = pack_scores(scores_of([[-1]], ["a"]))
    found = unpack_scores([two, other, b"", shorter, two[:-1], one, b"x"], ["a", "b"])
    assert found.at.tolist() == [0, 5]
    assert_same(found.scores, scores[[1, 0]])
    nothing = unpack_scores([three], ["b", "a"])
    assert nothing.scores.values.shape == (0, 2)
    assert nothing.at.tolist() == []


@pytest.mark.parametrize("part", ["values", "lower", "upper", "unresolved"])
def test_no_nan_is_kept(part):
    whole = scores_of([[-1, -2], [-3, -4]], ["a", "b"])
    broken = getattr(whole, part).copy()
    broken[1] = np.nan
    scores = replace(whole, **{part: broken})
    assert len(pack_scores(scores[[0]])) == 1
    with raises(
        "The engine returned NaN for a label: this is a bug in the engine, so the "
        "row gets no label.",
        EngineError,
    ):
        pack_scores(scores)


def test_candidates_of_each_text_are_packed_alone_and_combined_again():
    nothing = -np.inf
    values = [
        [-1, nothing, -2],
        [nothing, -3, -4],
        [-5, nothing, -6],
        [-7, -8, -9],
    ]
    scores = replace(
        scores_of(values, ["a", "b", "c"]), unresolved=np.array([0.5, 0.25, 0, 1])
    )
    groups = []
    for rows, names in [
        ([2, 0], ["a", "c"]),
        ([1], ["b", "c"]),
        ([3], ["a", "b", "c"]),
    ]:
        columns = [["a", "b", "c"].index(name) for name in names]
        some = scores[rows]
        parts = {
            name: getattr(some, name)[:, columns]
            for name in ("values", "lower", "upper")
        }
        packed = pack_scores(replace(some, classes=np.array(names), **parts))
        assert [len(each) for each in packed] == [24 * len(names) + 32] * len(rows)
        stored = unpack_scores(packed, names).scores
        assert stored.classes.tolist() == names
        groups.append(PlacedScores(stored, np.array(rows)))
    assert_same(combine_scores(groups, ["a", "b", "c"], n_texts=4), scores)
