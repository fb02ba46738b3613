"""Job directories: what was finished comes back, and only to the same job."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.errors import ConfigError
from classify.jobs.manifest import differences, other_versions
from tests.job_directories import MANIFEST, RECORD, add, begin, names, raises


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
        assert [path.name for path in job.part_paths(3)] == [
            "part-0000000.csv",
            "part-0000001.csv",
            "part-0000002.csv",
        ]
        assert [p.read_bytes() for p in job.part_paths(3)] == [b"zero", b"one", b"two"]
        assert [p.name for p in job.error_paths(3)] == [
            "errors-0000000.csv",
            "errors-0000001.csv",
        ]
        assert [p.read_bytes() for p in job.error_paths(2)] == [b"bad zero", b"bad one"]
        assert job.part_paths(0) == job.error_paths(0) == []


def test_a_missing_part_is_named(folder):
    with begin(folder) as job:
        add(job, 0, 1, 3)
        message = (
            f"Part 2 of {str(folder)!r} is not finished: run the same command again."
        )
        with raises(message):
            job.part_paths(4)
        with raises(message):
            job.error_paths(4)
        (folder / "part-0000001.csv").unlink()
        with raises(
            f"{str(folder / 'part-0000001.csv')!r} was removed while the job ran: run "
            "the same command again, which does that part again."
        ):
            job.part_paths(2)


def test_a_part_that_is_added_again_is_replaced(folder):
    with begin(folder) as job:
        job.add_part(0, b"first", b"bad", {"n": 1})
        job.add_part(0, b"second", b"", {"n": 2})
        assert job.finished == {0: {"n": 2}}
        assert job.error_paths(1) == []
    with begin(folder) as job:
        assert job.finished == {0: {"n": 2}}
        assert job.part_paths(1)[0].read_bytes() == b"second"
        assert job.error_paths(1) == []


def test_removal_leaves_nothing(folder):
    job = begin(folder)
    add(job, 0, 1)
    job.store_path.mkdir()
    (job.store_path / "scores.sqlite").write_bytes(b"scores")
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
            f"The folder {str(folder)!r} is kept, since it holds what is not of the "
            "job: 'notes.txt'."
        )
    ]
    with raises(
        f"{str(folder)!r} is needed for the job, and is something else: move it away, "
        "delete it, or give the output another name."
    ):
        begin(folder)


# What does not count


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"3", b"4", 1)),
    ],
    ids=["gone", "shorter", "other"],
)
@pytest.mark.parametrize("kind", ["part", "errors"])
def test_a_damaged_part_is_forgotten_and_done_again(folder, caplog, kind, damage):
    with begin(folder) as job:
        add(job, *range(5))
    damage(folder / f"{kind}-0000003.csv")
    with begin(folder) as job:
        assert sorted(job.finished) == [0, 1, 2, 4]
        assert caplog.messages == [
            (
                f"Finished parts of {str(folder)!r} are missing or damaged, and are "
                "done again: 3."
            )
        ]
        add(job, 3)
    caplog.clear()
    with begin(folder) as job:
        assert sorted(job.finished) == [0, 1, 2, 3, 4]
        assert caplog.messages == []


def test_a_journal_torn_anywhere_in_its_last_line_loses_that_line_only(folder):
    with begin(folder) as job:
        add(job, 0, 1)
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        journal.write_bytes(whole[:end])
        with begin(folder) as job:
            assert list(job.finished) == [0]
            assert journal.read_bytes() == whole[:first]
    with begin(folder) as job:
        add(job, 1)
    assert journal.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0",
        b"[]",
        b"null",
        b'{"index": 1}',
        b'{"index": 1, "part": {"n_bytes": 0}, "errors": null, "record": {}}',
        b'{"index": 1, "part": 0, "errors": null, "record": {}}',
        (
            b'{"index": "1", "part": {"n_bytes": 0, "crc32": 0}, "errors": null, '
            b'"record": {}}'
        ),
        b'{"index": 1, "part": {"n_bytes": 0, "crc32": 0}, "errors": 0, "record": {}}',
        (
            b'{"index": 1, "part": {"n_bytes": 0, "crc32": 0}, "errors": null, '
            b'"record": 0}'
        ),
        (
            b'{"index": 1, "part": {"n_bytes": "", "crc32": 0}, "errors": null, '
            b'"record": {}}'
        ),
    ],
)
def test_any_other_damage_of_the_journal_is_an_error(folder, line):
    with begin(folder) as job:
        add(job, 0, 1)
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + line + b"\n" + lines[1])
    message = (
        f"Line 2 of the journal {str(journal)!r} is damaged: start the job over "
        "with restart=True."
    )
    for _ in range(2):  # The lock is free again after the first.
        with raises(message):
            begin(folder)
    with begin(folder, restart=True) as job:
        assert job.finished == {}


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
            st.tuples(st.just("tear"), st.binary(min_size=1, max_size=5)),
            st.tuples(st.just("reopen")),
        ),
        max_size=20,
    )
)
def test_it_is_a_dictionary_that_outlives_its_process(steps):
    model = {}
    lost = set()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "job")
        job = begin(folder)
        for number, (kind, *values) in enumerate([*steps, ("reopen",)]):
            if kind == "add":
                index, data, errors = values
                job.add_part(index, data, errors, {"number": number})
                model[index] = (data, errors, {"number": number})
                lost.discard(index)
            elif kind == "lose":
                (folder / f"part-{values[0]:07d}.csv").unlink(missing_ok=True)
                lost.add(values[0])
            else:
                job.close()
                if kind == "tear":
                    with (folder / "journal.jsonl").open("ab") as file:
                        file.write(values[0].replace(b"\n", b"\r"))
                model = {i: part for i, part in model.items() if i not in lost}
                job = begin(folder)
                assert job.finished == {i: record for i, (*_, record) in model.items()}
                for index, (data, errors, _) in model.items():
                    path = folder / f"part-{index:07d}.csv"
                    assert path.read_bytes() == data
                    path = folder / f"errors-{index:07d}.csv"
                    assert not errors or path.read_bytes() == errors
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
        f"The job in {str(folder)!r} was begun with something else. model: was "
        "demo@main, now big@main; prompt: was nothing, now sha256:2; input 'a.csv': "
        "its contents changed (size 120 → 140); output format: was csv, now jsonl. Run "
        "it as it was begun, or start over with restart=True, which throws its "
        "finished parts away."
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
    kept = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert kept["versions"] == [
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


def test_a_later_version_of_the_package_is_needed(folder):
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": "classify job 2"}')
    with raises(
        f"The job in {str(folder)!r} was begun by a later version of classify: go on "
        "with that version, or start over with restart=True."
    ):
        begin(folder)
    with begin(folder, restart=True) as job:
        assert job.finished == {}
    with begin(folder):
        pass


def test_restart_throws_away_what_is_of_the_job_and_nothing_else(folder):
    with begin(folder) as job:
        add(job, 0, 1, 2)
        job.store_path.mkdir()
        (job.store_path / "scores.sqlite").write_bytes(b"scores")
    (folder / "notes.txt").write_text("mine")
    (folder / ".part-0000007.csv.99.part").write_bytes(b"killed")
    with begin(folder, MANIFEST | {"output": {}}, restart=True) as job:
        assert job.finished == {}
        assert names(folder) == ["journal.jsonl", "lock", "manifest.json", "notes.txt"]
        add(job, 1)
    with begin(folder, MANIFEST | {"output": {}}) as job:
        assert list(job.finished) == [1]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("what", ["file", "folder", "manifest", "list"])
def test_what_is_no_job_is_left_alone(folder, what, restart):
    if what == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        name = "part-0000000.csv" if what == "folder" else "manifest.json"
        (folder / name).write_text("[]" if what == "list" else '{"format": "mine"}')
    message = (
        f"{str(folder)!r} is needed for the job, and is something else: move it away, "
        "delete it, or give the output another name."
        if what in ("file", "folder")
        else f"{str(folder / 'manifest.json')!r} is no manifest of a job: move the "
        "folder that it is in away, or delete it if nobody needs it."
    )
    with raises(message):
        begin(folder, restart=restart)
    if what == "folder":
        assert names(folder) == ["part-0000000.csv"]
    elif folder.is_dir():
        assert (folder / "manifest.json").exists()


def test_a_job_that_was_killed_while_it_began_begins(folder):
    folder.mkdir()
    (folder / "lock").touch()
    (folder / ".manifest.json.123.part").write_text("{")
    with begin(folder) as job:
        add(job, 0)
        assert ".manifest.json.123.part" not in names(folder)
