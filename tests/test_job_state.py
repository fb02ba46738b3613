"""What a job keeps: what was finished comes back, and only to the same job."""

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.errors import ConfigError, DataError
from classify.jobs.manifest import differences, other_versions
from tests.job_states import MANIFEST, RECORD, add, begin, content, names, raises, sql


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out.csv.job"


# What is kept, and what comes back


def test_parts_come_back_in_order_whatever_the_order_they_were_finished_in(folder):
    with begin(folder) as job:
        assert job.finished == {}
        job.add_part(2, b"two", b"", RECORD)
        job.add_part(0, b"zero", b"bad zero", {})
        job.add_part(1, b"one", b"bad one", {"n_rows": 0})
    with begin(folder) as job:
        assert job.finished == {0: {}, 1: {"n_rows": 0}, 2: RECORD}
        assert list(job.parts(3)) == [b"zero", b"one", b"two"]
        assert list(job.errors(3)) == [b"bad zero", b"bad one"]
        assert list(job.errors(1)) == [b"bad zero"]
        assert len(job.parts(0)) == len(list(job.errors(0))) == 0


def test_a_missing_part_is_named(folder):
    with begin(folder) as job:
        add(job, 0, 1, 3)
        message = (
            f"Part 2 of {str(folder)!r} is not finished: run the same command again."
        )
        with raises(message):
            job.parts(4)
        with raises(message):
            job.errors(4)


def test_a_part_that_is_added_again_is_replaced(folder):
    with begin(folder) as job:
        job.add_part(0, b"first", b"bad", {"n": 1})
        job.add_part(0, b"second", b"", {"n": 2})
        assert job.finished == {0: {"n": 2}}
        assert list(job.errors(1)) == []
    with begin(folder) as job:
        assert job.finished == {0: {"n": 2}}
        assert list(job.parts(1)) == [b"second"]
        assert list(job.errors(1)) == []


def test_removal_leaves_nothing(folder):
    job = begin(folder)
    add(job, 0, 1)
    job.scores.put_many([(b"key", b"scores")])
    job.remove()
    job.close()
    assert names(folder.parent) == []


def test_removal_keeps_what_is_not_of_the_job_and_says_so(folder, caplog):
    job = begin(folder)
    add(job, 0)
    (folder / "notes.txt").write_text("mine")
    job.remove()
    assert names(folder) == ["notes.txt"]
    assert caplog.messages == [
        (
            f"The folder {str(folder)!r} is kept, since it contains files that do not "
            "belong to the job: 'notes.txt'."
        )
    ]
    with raises(
        f"{str(folder)!r} is needed for the job, but is something else: move it away, "
        "delete it, or give the output another name."
    ):
        begin(folder)


# What does not count


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM pieces",
        "UPDATE pieces SET data = substr(data, 2)",
        "UPDATE pieces SET data = CAST(replace(data, '3', '4') AS BLOB)",
    ],
    ids=["gone", "shorter", "other"],
)
@pytest.mark.parametrize("kind", ["rows", "errors"])
def test_a_damaged_part_is_forgotten_and_done_again(folder, caplog, kind, damage):
    with begin(folder) as job:
        add(job, *range(5))
    sql(folder, f"{damage} WHERE place = 3 AND kind = ?", kind)
    with begin(folder) as job:
        assert sorted(job.finished) == [0, 1, 2, 4]
        assert caplog.messages == [
            f"Finished parts of {str(folder)!r} are damaged and will be redone: 3."
        ]
        add(job, 3)
    caplog.clear()
    with begin(folder) as job:
        assert sorted(job.finished) == [0, 1, 2, 3, 4]
        assert [*job.parts(5)] == [content(index)[0] for index in range(5)]
        assert caplog.messages == []


def test_a_part_larger_than_sqlite_reads_at_a_time(folder):
    large = bytes(range(256)) * (3 * 2**18)  # 192 MiB: three pieces
    with begin(folder) as job:
        job.add_part(0, large, b"", {})
    assert sql(folder, "SELECT count(*) FROM pieces") == [(3,)]
    with begin(folder) as job:
        assert job.finished == {0: {}}
        assert job.parts(1)[0] == large


def test_a_damaged_file_says_so_and_can_be_started_over(folder):
    with begin(folder) as job:
        add(job, *range(20))
    file = folder / "job.sqlite"
    whole = file.read_bytes()
    damaged = f"The file of the job in {str(folder)!r} is damaged ("
    for broken in (whole[:100] + b"\xff" * (len(whole) - 100), whole[:40_000]):
        file.write_bytes(broken)
        for _ in range(2):  # The lock is free again after the first.
            with pytest.raises(DataError) as caught:
                begin(folder)
            assert str(caught.value).startswith(damaged)
            assert str(caught.value).endswith("): start over with restart=True.")
        assert file.read_bytes() == broken
    with begin(folder, restart=True) as job:
        assert job.finished == {}
        add(job, 0)
    with begin(folder) as job:
        assert list(job.finished) == [0]


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("add"),
                st.integers(0, 5),
                st.binary(max_size=20),
                st.binary(max_size=3),
            ),
            st.tuples(st.just("lose"), st.integers(0, 5)),
            st.tuples(st.just("reopen")),
        ),
        max_size=20,
    )
)
def test_it_is_a_dictionary_that_outlives_its_process(steps):
    model = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "job")
        job = begin(folder)
        for number, (kind, *values) in enumerate([*steps, ("reopen",)]):
            if kind == "add":
                index, data, errors = values
                job.add_part(index, data, errors, {"number": number})
                model[index] = (data, errors, {"number": number})
            else:
                job.close()
                if kind == "lose":
                    sql(folder, "DELETE FROM pieces WHERE place = ?", values[0])
                    # A part without rows has no pieces to lose.
                    if any(model.get(values[0], ((), (), None))[:2]):
                        del model[values[0]]
                job = begin(folder)
                assert job.finished == {i: record for i, (*_, record) in model.items()}
                for index, (data, errors, _) in model.items():
                    assert job.content(index, "rows") == data
                    assert job.content(index, "errors") == errors
        job.remove()
        assert not folder.exists()


# The same job, or another


def test_another_job_is_refused_and_what_differs_is_named(folder):
    with begin(folder) as job:
        add(job, 0)
    other = MANIFEST | {
        "fingerprint": {"model": "big@main", "labels": "a, b", "prompt": "sha256:2"},
        "inputs": [{"path": "a.csv", "size": 140, "digest": "sha256:3"}],
        "output": {"format": "jsonl"},
    }
    message = (
        f"The job in {str(folder)!r} was started with something else. model: was "
        "demo@main, now big@main; prompt: was nothing, now sha256:2; input 'a.csv': "
        "its contents changed (size 120 → 140); output format: was csv, now jsonl. Run "
        "it as it was started, or start over with restart=True, which discards its "
        "finished parts."
    )
    for _ in range(2):  # The lock is free again after the first.
        with raises(message, ConfigError):
            begin(folder, other)
    with begin(folder) as job:
        assert list(job.finished) == [0]


@pytest.mark.parametrize(
    ("saved", "present", "expected"),
    [
        ({"limit": 3}, {"limit": 3}, []),
        ({"limit": [1, 2]}, {}, ["limit: was 1, 2, now nothing"]),
        ({"limit": [1, 2]}, {"limit": (1, 2)}, []),
        ({}, {"limit": {"a": True}}, ['limit: was nothing, now {"a": true}']),
        ({"versions": 1, "part_rows": 1}, {"versions": 2, "part_rows": 2}, []),
        (
            {"inputs": [{"path": "a", "size": 1, "digest": "x"}]},
            {"inputs": [{"path": "a", "size": 1, "digest": "y"}]},
            ["input 'a': its contents changed (size 1 → 1)"],
        ),
        (
            {"inputs": [{"path": "a", "size": 1, "digest": "x"}]},
            {"inputs": [{"path": p, "size": 1, "digest": "x"} for p in "ab"]},
            ["inputs: was a, now a, b"],
        ),
    ],
)
def test_differences(saved, present, expected):
    assert differences(saved, present) == expected


def test_other_versions_are_told_and_kept(folder):
    for torch, notes in [
        ("2.10", ()),
        ("2.11", ("torch was 2.10 and is now 2.11",)),
        ("2.12", ("torch was 2.10, 2.11 and is now 2.12",)),
        ("2.10", ("torch was 2.11, 2.12 and is now 2.10",)),
    ]:
        with begin(folder, MANIFEST | {"versions": {"torch": torch}}) as job:
            assert job.version_notes == notes
    [(content,)] = sql(folder, "SELECT content FROM manifest")
    assert json.loads(content)["versions"] == [
        {"torch": "2.10"},
        {"torch": "2.11"},
        {"torch": "2.12"},
    ]
    assert other_versions([{"vllm": "1"}], {"ray": "2"}) == [
        "vllm was 1 and is now nothing",
        "ray was nothing and is now 2",
    ]


def test_the_first_part_rows_stay(folder):
    with begin(folder) as job:
        assert job.part_rows == 2048
    with begin(folder, MANIFEST | {"part_rows": 1}) as job:
        assert job.part_rows == 2048
    with begin(folder, MANIFEST | {"part_rows": 1}, restart=True) as job:
        assert job.part_rows == 1


def test_the_version_of_the_package_that_began_it_is_needed(folder):
    with begin(folder):
        pass
    sql(folder, "PRAGMA user_version = 2")
    with raises(
        f"The job in {str(folder)!r} was started by another version of classify: "
        "continue with that version, or start over with restart=True."
    ):
        begin(folder)
    with begin(folder, restart=True) as job:
        assert job.finished == {}
    with begin(folder):
        pass


def test_restart_throws_away_what_is_of_the_job_and_nothing_else(folder):
    with begin(folder) as job:
        add(job, 0, 1, 2)
        job.scores.put_many([(b"key", b"scores")])
    (folder / "notes.txt").write_text("mine")
    with begin(folder, MANIFEST | {"output": {}}, restart=True) as job:
        assert job.finished == job.scores.get_many([b"key"]) == {}
        add(job, 1)
    assert names(folder) == ["job.sqlite", "lock", "notes.txt"]
    with begin(folder, MANIFEST | {"output": {}}) as job:
        assert list(job.finished) == [1]


def other_program(file):
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE mine (value)")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder.write_text("mine"),
        lambda folder: (folder.mkdir(), (folder / "part-0000000.csv").touch()),
        lambda folder: (folder.mkdir(), (folder / "job.sqlite").write_text("mine")),
        lambda folder: (folder.mkdir(), other_program(folder / "job.sqlite")),
    ],
    ids=["file", "folder", "text", "database"],
)
def test_what_is_no_job_is_left_alone(folder, make, restart):
    make(folder)
    before = {path: path.read_bytes() for path in folder.glob("*")}
    message = (
        f"{str(folder / 'job.sqlite')!r} is not the file of a job: move the folder "
        "that it is in away, or delete it if it is not needed."
        if folder / "job.sqlite" in before
        else f"{str(folder)!r} is needed for the job, but is something else: move it "
        "away, delete it, or give the output another name."
    )
    with raises(message):
        begin(folder, restart=restart)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("size", [None, 0])
def test_a_job_that_was_killed_while_it_began_begins(folder, size):
    folder.mkdir()
    (folder / "lock").touch()
    if size is not None:
        (folder / "job.sqlite").touch()
    with begin(folder) as job:
        add(job, 0)
    with begin(folder) as job:
        assert list(job.finished) == [0]
