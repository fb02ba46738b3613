"""Jobs that fail, stop or are begun again: nothing twice, and the same bytes."""

import json
import logging
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.decision import SplitConformalSets
from classify.engines import FakeEngine
from classify.errors import ConfigError, EngineError, TooManyErrorsError
from classify.jobs import ErrorLimit, open_table, output_format
from classify.jobs.identity import score_digest
from tests.chat_templates import DATED, chat_tokenizer
from tests.job_states import n_parts, sql
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import (
    Countdown,
    ScatteredEngine,
    asked,
    csv_of,
    dying_engine,
    job_of,
    make,
    names,
    raises,
    run,
    write,
)
from tests.toy_model import hashed_engine


def engine():
    return hashed_engine(len(byte_level()), window=1)


def texts(n_texts):
    return [f"text {n}." for n in range(n_texts)]


@pytest.fixture
def source(tmp_path):
    return csv_of(tmp_path / "in.csv", [[text] for text in texts(10)])


@pytest.fixture
def whole(source, tmp_path):
    """The output of a run that nothing disturbs."""
    run(source, tmp_path / "whole.csv")
    return (tmp_path / "whole.csv").read_bytes()


def stop(source, output, n_times=4, **options):
    """Begin a job and stop it at the second of its parts."""
    outcome = run(source, output, stopping=Countdown(n_times), part_rows=2, **options)
    assert not outcome.is_complete
    return outcome


def changed(output, what):
    return (
        f"The job in '{output}.job' was started with something else. {what}. Run it "
        "as it was started, or start over with restart=True, which discards its "
        "finished parts."
    )


# ------------------------------------------------------------------------- failures


@pytest.mark.parametrize(("at", "n_finished"), [(0, 0), (1, 0), (4, 4), (9, 8)])
def test_an_engine_that_fails_loses_nothing(source, whole, tmp_path, at, n_finished):
    output = write(tmp_path / "out.csv", "old")
    job = job_of(make(engine=dying_engine(f"text {at}.", window=1)))
    with pytest.raises(EngineError) as failed:
        run(source, output, job, part_rows=2)
    assert str(failed.value) == "The engine died."
    [note] = failed.value.__notes__
    assert note == (
        f"{n_finished} rows are finished and kept in '{output}.job': run the same "
        "command again to resume."
    )
    assert output.read_bytes() == b"old"
    mended = engine()
    outcome = run(source, output, job_of(make(engine=mended)))
    assert output.read_bytes() == whole
    assert asked(mended) == texts(10)[at:]
    assert (outcome.n_resumed, outcome.summary.n_rows) == (n_finished, 10)
    assert names(tmp_path) == ["in.csv", "out.csv", "whole.csv"]


@pytest.mark.parametrize(
    "name",
    [
        *("out.csv", "out.tsv", "out.jsonl", "out.parquet"),
        *("out.csv.gz", "out.jsonl.gz", "out.tsv.zst"),
    ],
)
def test_every_format_goes_on(tmp_path, name):
    rows = [["1", "a\nb"], ["2", ""], ["3", "fail"], ["4", 'x,"y"\t'], ["5", "é株"]]
    source = csv_of(tmp_path / "in.csv", rows, ("id", "text"))
    run(source, tmp_path / f"whole-{name}", job_of(probabilities=True))
    output = tmp_path / name
    failing = make(engine=dying_engine("fail"))
    with pytest.raises(EngineError):
        run(source, output, job_of(failing, probabilities=True), part_rows=1)
    outcome = run(source, output, job_of(probabilities=True))
    assert outcome.n_resumed == 2
    for suffix in ("", ".errors.csv"):
        one, other = tmp_path / f"{name}{suffix}", tmp_path / f"whole-{name}{suffix}"
        if "parquet" in name and not suffix:
            # Its bytes tell how the rows came in parts.
            assert pd.read_parquet(one).equals(pd.read_parquet(other))
        else:
            assert one.read_bytes() == other.read_bytes()


# --------------------------------------------------------------------- asked to stop


@pytest.mark.parametrize("n_times", range(21))
def test_a_job_that_is_stopped_goes_on(source, whole, tmp_path, n_times):
    output, first, second = tmp_path / "out.csv", engine(), engine()
    outcome = run(
        source,
        output,
        job_of(make(engine=first)),
        stopping=Countdown(n_times),
        part_rows=2,
    )
    if outcome.is_complete:
        # Asked before 5 chunks, 10 texts and 5 batches.
        assert n_times == 20
        assert output.read_bytes() == whole
        return
    assert outcome.folder == tmp_path / "out.csv.job"
    assert not output.exists()
    assert outcome.summary.n_rows == outcome.summary.n_labelled <= len(asked(first))
    resumed = run(source, output, job_of(make(engine=second)))
    assert output.read_bytes() == whole
    assert resumed.n_resumed == outcome.summary.n_rows
    assert [*asked(first), *asked(second)] == texts(10)
    assert not outcome.folder.exists()


def test_what_was_asked_before_a_stop_is_not_asked_again(tmp_path):
    # One part: it is not finished, but eight of its texts are in flight.
    source = csv_of(tmp_path / "in.csv", [[text] for text in texts(30)])
    first, second = (hashed_engine(len(byte_level()), window=8) for _ in range(2))
    outcome = run(
        source,
        tmp_path / "out.csv",
        job_of(make(engine=first)),
        stopping=Countdown(14),
    )
    assert (outcome.is_complete, outcome.summary.n_rows) == (False, 0)
    assert asked(first) == texts(8)  # the others were not begun, and taken back
    run(source, tmp_path / "out.csv", job_of(make(engine=second)))
    assert asked(second) == texts(30)[8:]


# ------------------------------------------------------------- the same text, once


def test_identical_texts_are_asked_once(tmp_path):
    rows = [[text] for text in ["a", "b", "a", "c", "a", "b", "d", "d"]]
    source, used = csv_of(tmp_path / "in.csv", rows), engine()
    job = job_of(make(engine=used))
    run(source, tmp_path / "out.csv", job, part_rows=3)
    assert asked(used) == ["a", "b", "c", "d"]
    # Another job does not know what the first one knew, unless it kept it.
    run(source, tmp_path / "again.csv", job, part_rows=3)
    assert asked(used) == ["a", "b", "c", "d"] * 2
    for name in ("cold.csv", "warm.csv"):
        run(source, tmp_path / name, job, cache=tmp_path / "cache")
    assert asked(used) == ["a", "b", "c", "d"] * 3
    out = (tmp_path / "out.csv").read_bytes()
    assert {(tmp_path / f"{n}.csv").read_bytes() for n in ("cold", "warm")} == {out}


@pytest.mark.parametrize(
    "other",
    [
        {"labels": ("billing", "shopping")},
        {"labels": ("shipping", "billing")},
        {"template": "{text}.\nTopic:"},
        {"tolerance": 0.0},
        {"strategy": "generate"},
        {"model": "other/model"},
        {"dtype": "float64"},
        {"engine_options": {"max_model_len": 17}},
    ],
    ids=str,
)
def test_a_cache_is_not_hit_by_what_scores_otherwise(source, tmp_path, other):
    used, cache = engine(), tmp_path / "cache"
    template = {"template": "{text}, {labels}:"}
    for n_jobs in (1, 1):
        job = job_of(make(engine=used, **template))
        run(source, tmp_path / "one.csv", job, cache=cache)
        assert len(asked(used)) == 10 * n_jobs
    job = job_of(make(engine=used, **(template | other)))
    run(source, tmp_path / "two.csv", job, cache=cache)
    assert len(asked(used)) == 20


def test_a_cache_is_hit_whatever_is_written_of_scores(source, tmp_path):
    used, cache = engine(), tmp_path / "cache"
    run(source, tmp_path / "one.csv", job_of(make(engine=used)), cache=cache)
    frame = pd.DataFrame({"body": [*texts(10), "new"]})
    job = job_of(make(engine=used), text="body", probabilities=True)
    run(frame, tmp_path / "two.parquet", job, cache=cache, part_rows=3)
    assert asked(used) == [*texts(10), "new"]


@pytest.mark.parametrize("declared", [None, ("w", "x", "y", "z")])
def test_labels_of_each_row_and_a_cache(tmp_path, declared):
    rows = [
        *(["a", "x|y"], ["a", "x|y|z"], ["b", "x|y"], ["a", "x|y"]),
        *(["a", '["x", "y"]'], ["a", "y|x"], ["b", "z|w"]),
    ]
    source = csv_of(tmp_path / "in.csv", rows, ("text", "candidates"))
    # The prompt names the labels of each row, in their order.
    used = engine()
    classifier = make(declared, engine=used, template="{text} {labels}\nTopic:")
    job = job_of(classifier, labels="candidates")
    run(source, tmp_path / "cold.csv", job, cache=tmp_path / "cache", part_rows=2)
    n_cold = used.n_requests
    assert len(asked(used)) == len(set(asked(used)))
    texts_asked = [each.split()[0] for each in asked(used)]
    # Among declared labels, the prompt keeps their order: y|x is x|y.
    n_orders = 1 if declared else 2
    assert sorted(texts_asked) == [*["a"] * (1 + n_orders), "b", "b"]
    run(source, tmp_path / "warm.csv", job, cache=tmp_path / "cache", part_rows=3)
    assert used.n_requests == n_cold
    warm = (tmp_path / "warm.csv").read_bytes()
    assert warm == (tmp_path / "cold.csv").read_bytes()
    frame = pd.read_csv(tmp_path / "warm.csv")
    listed = [row[1].split("|") for row in rows[:4]]
    expected = job.questions[0].classifier.predict(
        frame["text"].tolist(),
        labels=[*listed, ["x", "y"], ["y", "x"], ["z", "w"]],
    )
    assert frame["label"].tolist() == expected.tolist()


# ------------------------------------------------------------------ begun otherwise


def test_a_restart_forgets(source, whole, tmp_path):
    output, used = tmp_path / "out.csv", engine()
    stop(source, output)
    outcome = run(source, output, job_of(make(engine=used)), restart=True)
    assert outcome.n_resumed == 0
    assert asked(used) == texts(10)
    assert output.read_bytes() == whole


def test_a_kept_job_is_not_done_again(source, whole, tmp_path):
    output, used = tmp_path / "out.csv", engine()
    outcome = run(source, output, keep=True, part_rows=4)
    assert outcome.folder == tmp_path / "out.csv.job"
    assert n_parts(outcome.folder) == 3
    output.unlink()
    again = run(source, output, job_of(make(engine=used)))
    assert (again.n_resumed, used.n_requests, again.folder) == (10, 0, None)
    assert output.read_bytes() == whole
    assert not outcome.folder.exists()


def test_a_changed_input_is_refused(source, tmp_path):
    output = tmp_path / "out.csv"
    stop(source, output)
    before = source.stat().st_size
    csv_of(source, [[text] for text in texts(11)])
    what = f"input '{source}': its contents changed (size {before} → {before + 9})"
    with raises(changed(output, what), ConfigError):
        run(source, output)
    # Same size, other text.
    csv_of(source, [[text] for text in reversed(texts(10))])
    what = f"input '{source}': its contents changed (size {before} → {before})"
    with raises(changed(output, what), ConfigError):
        run(source, output)
    other = csv_of(tmp_path / "other.csv", [[text] for text in texts(10)])
    with raises(
        changed(output, f"inputs: was {source}, now {other}"),
        ConfigError,
    ):
        run(other, output)
    assert not output.exists()
    assert run(source, output, restart=True).is_complete


def test_a_changed_job_is_refused_by_name(source, tmp_path):
    output = tmp_path / "out.csv"
    stop(source, output)
    with pytest.raises(
        ConfigError,
        match=r"else\. labels: was billing, shipping, now billing, refund; label_w",
    ):
        run(source, output, job_of(make(("billing", "refund"))))
    with raises(
        changed(
            output,
            'columns: was {"labels": null, "probabilities": false, "text": "text"}, '
            'now {"labels": null, "probabilities": true, "text": "text"}',
        ),
        ConfigError,
    ):
        run(source, output, job_of(probabilities=True))
    with raises(
        changed(output, "tolerance: was 0.001, now 0.0"),
        ConfigError,
    ):
        run(source, output, job_of(make(tolerance=0.0)))
    with raises(
        changed(output, 'reading: was {}, now {"separator": "\';\'"}'), ConfigError
    ):
        run(source, output, job_of(reading={"separator": "';'"}))
    tsv = output_format(output, output_format="tsv")
    with raises(changed(output, "output format: was csv, now tsv"), ConfigError):
        run(source, output, output_as=tsv)
    assert run(source, output).n_resumed == 2


def test_changed_decisions_are_refused(source, tmp_path):
    output, plain = tmp_path / "out.csv", make()
    scores, y = plain.label_logprobs(texts(10)), plain.predict(texts(10))
    fitted = [LabelCalibrator(method).fit(scores, y) for method in ("bias", "none")]
    jobs = [job_of(make(calibrator=each)) for each in (*fitted, None)]
    proba = plain.predict_proba(texts(10))
    for level in (0.7, 0.8):
        sets = SplitConformalSets(level, classes=plain.classes_).fit(proba, y)
        jobs.append(job_of(make(), sets=sets))
    for n_job, job in enumerate(jobs):
        stop(source, output, job=job, restart=True)
        for n_other, other in enumerate(jobs):
            if n_job == n_other:
                continue
            section = "calibration|sets|calibration: .*; sets"
            with pytest.raises(
                ConfigError,
                match=rf"^The job in .* else\. ({section}): was \w+, now \w+\. Run",
            ):
                run(source, output, other)
        assert run(source, output, job).n_resumed == 2


def test_other_versions_go_on_with_a_warning(source, whole, tmp_path, caplog):
    output = tmp_path / "out.csv"
    stop(source, output)
    folder = tmp_path / "out.csv.job"
    [[content]] = sql(folder, "SELECT content FROM manifest")
    manifest = json.loads(content)
    present = manifest["versions"][0]["torch"]
    manifest["versions"] = [manifest["versions"][0] | {"torch": "0.1", "rust": "1"}]
    sql(folder, "UPDATE manifest SET content = ?", json.dumps(manifest))
    with caplog.at_level(logging.WARNING, "classify.jobs"):
        assert run(source, output).n_resumed == 2
    said = [each for each in caplog.records if each.name == "classify.jobs.run"]
    [message] = [each.getMessage() for each in said]
    assert message == (
        "Earlier runs of this job had other versions: torch was 0.1 and is now "
        f"{present}; rust was 1 and is now nothing."
    )
    assert output.read_bytes() == whole


# ------------------------------------------------------------------- whatever happens

cells = st.sampled_from(["a", "b", "c", "d", "e", "f", "", " ", 'x,"\n', "株"])
lines = st.lists(
    st.one_of(cells.map(lambda text: [text, "1"]), st.just(["short"])), max_size=25
)


@given(
    rows=lines,
    part_rows=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    with_cache=st.booleans(),
    asynchronous=st.booleans(),
)
@settings(max_examples=25)
def test_whatever_happens_each_row_comes_out_once(
    tmp_path_factory, rows, part_rows, seed, with_cache, asynchronous
):
    folder, rng = tmp_path_factory.mktemp("job"), random.Random(seed)
    source, output = folder / "in.csv", folder / "out.csv"
    csv_of(source, rows, ("text", "n"))
    run(source, folder / "whole.csv")
    for _ in range(100):
        used = dying_engine(rng.choice("abcdef#"), window=rng.choice([1, 3]))
        if asynchronous:
            used = ScatteredEngine(used, rng.randrange(100))
        try:
            outcome = run(
                source,
                output,
                job_of(make(engine=used)),
                part_rows=part_rows,
                stopping=Countdown(rng.randrange(1, 30)),
                max_errors=ErrorLimit(rng.choice([1, 30])),
                cache=folder / "cache" if with_cache else None,
                restart=rng.random() < 0.05,
            )
        except (EngineError, TooManyErrorsError):
            continue
        if outcome.is_complete:
            break
    assert outcome.is_complete
    for suffix in ("", ".errors.csv"):
        one, other = folder / f"out.csv{suffix}", folder / f"whole.csv{suffix}"
        assert one.exists() == other.exists()
        if one.exists():
            assert one.read_bytes() == other.read_bytes()
    assert outcome.summary.n_rows == len(rows) == open_table(source).n_rows
    assert not (folder / "out.csv.job").exists()


def test_a_job_resumed_on_another_day_asks_with_the_date_it_began_with(tmp_path):
    tokenizer = chat_tokenizer(DATED)
    prompts = []

    def make_job(*, dies):
        def next_logprobs(token_ids):
            prompts.append(tokenizer.decode(token_ids))
            if dies and "text 2" in prompts[-1]:
                raise EngineError("The engine died.")
            return np.full(len(tokenizer), -np.log(len(tokenizer)))

        engine = FakeEngine.from_function(next_logprobs, len(tokenizer), window=1)
        classifier = ZeroShotClassifier(
            ["billing", "shipping"], engine=engine, tokenizer=tokenizer
        )
        return job_of(classifier)

    source = csv_of(tmp_path / "in.csv", [[f"text {at}"] for at in range(4)])
    output = tmp_path / "out.csv"
    with pytest.raises(EngineError):
        run(source, output, make_job(dies=True).dated({"": "2026-03-01"}), part_rows=1)
    began = len(prompts)
    assert run(source, output, make_job(dies=False)).is_complete
    assert len(prompts) > began
    assert all("Today: 01 Mar 2026" in prompt for prompt in prompts)


def test_scores_of_another_day_are_not_those_of_today(tmp_path):
    classifier = ZeroShotClassifier(
        ["billing", "shipping"],
        engine=FakeEngine.uniform(256),
        tokenizer=chat_tokenizer(DATED),
    )
    job = job_of(classifier)
    first, same, other = (
        score_digest(job.dated({"": day}).scorers()[0])
        for day in ("2026-03-01", "2026-03-01", "2026-03-02")
    )
    assert first == same
    assert first != other
    undated = job_of()
    assert undated.dated({}) == undated
