"""What the model thought, in the rows of jobs: kept, resumed, and in all formats."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from classify import PromptTemplate
from classify.engines import FakeEngine
from classify.errors import ConfigError, EngineError
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import Classification, open_table
from classify.jobs.score_records import pack_scores, unpack_scores
from classify.scoring import Chain, LabelLogprobs, Reasoning
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import csv_of, dying_engine, job_of, make, raises, run
from tests.toy_model import hashed_engine, hashed_logprobs

TEXTS = ["Where is it?", "I paid twice.", "Hello", "It broke", "Thank you"]
THOUGHTS = {"strategy": "reason", "max_reasoning_tokens": 6, "n_chains": 3}
ADDED = [
    *("label", "probability", "label_mass", "unresolved", "truncated", "reasoning"),
    *("cut", "agreement", "standard_error", "error"),
]


@pytest.fixture
def source(tmp_path):
    return csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])


def cells_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def frame_of(**options):
    clf = make(**THOUGHTS | options)
    return clf.classify_frame(pd.DataFrame({"text": TEXTS}), on_error="set_aside")


def test_every_format_has_what_a_frame_has(source, tmp_path):
    expected = frame_of()
    assert list(expected.columns) == ["text", *ADDED]
    scores = make(**THOUGHTS).label_logprobs(TEXTS)
    for at, each in enumerate(scores.reasoning):
        row = expected.iloc[at]
        best = list(scores.classes).index(row["label"])
        assert (row["reasoning"], row["cut"]) == (each.text, each.cut)
        assert row["agreement"] == each.agreement
        assert row["standard_error"] == each.standard_error[best]
    job = job_of(make(**THOUGHTS), reasoning=True)
    run(source, tmp_path / "out.csv", job)
    run(source, tmp_path / "out.jsonl", job)
    run(source, tmp_path / "out.parquet", job)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    parquet = pd.read_parquet(tmp_path / "out.parquet")
    cells = cells_of(tmp_path / "out.csv")
    for at, (cell, record) in enumerate(zip(cells, records, strict=True)):
        row = expected.iloc[at]
        assert cell["reasoning"] == record["reasoning"] == row["reasoning"]
        assert parquet["reasoning"][at] == row["reasoning"]
        assert record["cut"] is bool(parquet["cut"][at]) is bool(row["cut"])
        for name in ("agreement", "standard_error"):
            assert float(cell[name]) == record[name] == parquet[name][at] == row[name]


def test_a_frame_of_many_labels_says_how_each_was_thought_of(source, tmp_path):
    clf = ZeroShotMultiLabelClassifier(
        ["shipping", "billing"],
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic: {label}?", chat=False),
        **THOUGHTS,
    )
    found = clf.classify_frame(pd.DataFrame({"text": TEXTS}), on_error="set_aside")
    added = ["cut", "agreement", "standard_error", "error"]
    assert list(found.columns[-5:]) == ["truncated", *added]
    job = Classification(classifier=clf)
    run(source, tmp_path / "out.parquet", job)
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert list(written.columns) == list(found.columns)
    for name in ("cut", "agreement", "standard_error"):
        assert written[name].tolist() == found[name].tolist()
    assert (found["standard_error"] > 0.0).all()
    assert found["cut"].all()


def test_one_chain_has_no_error_and_thoughts_are_left_out_unless_asked_for(
    source, tmp_path
):
    one = THOUGHTS | {"n_chains": 1}
    run(source, tmp_path / "out.csv", job_of(make(**one)))
    [first, *_] = cells_of(tmp_path / "out.csv")
    assert list(first)[1:] == [
        *("label", "probability", "label_mass", "unresolved", "truncated"),
        *("cut", "error"),
    ]
    assert first["cut"] == "True"


def test_thoughts_are_kept_with_the_scores(source, tmp_path):
    cache = tmp_path / "cache"
    run(source, tmp_path / "plain.csv", job_of(make(**THOUGHTS)), cache=cache)
    engine = hashed_engine(len(byte_level()))
    job = job_of(make(engine=engine, **THOUGHTS), reasoning=True)
    run(source, tmp_path / "out.csv", job, cache=cache)
    assert engine.n_requests == 0
    thoughts = [row["reasoning"] for row in cells_of(tmp_path / "out.csv")]
    assert thoughts == frame_of()["reasoning"].tolist()
    # Another number of chains is another score.
    other = make(engine=engine, **THOUGHTS | {"n_chains": 2})
    run(source, tmp_path / "other.csv", job_of(other), cache=cache)
    assert engine.n_requests > len(TEXTS)


def test_a_job_that_died_goes_on_with_the_same_thoughts(source, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    run(source, whole, job_of(make(**THOUGHTS), reasoning=True), part_rows=2)
    dying = make(engine=dying_engine(TEXTS[3]), **THOUGHTS)
    with pytest.raises(EngineError):
        run(source, out, job_of(dying, reasoning=True), part_rows=2)
    run(source, out, job_of(make(**THOUGHTS), reasoning=True), part_rows=2)
    assert out.read_bytes() == whole.read_bytes()


def test_rows_with_labels_of_their_own_and_rows_without_a_text(tmp_path):
    rows = [["Hello", "a|b"], ["", "a|b"], ["Bye", "b|c"]]
    source = csv_of(tmp_path / "in.csv", rows, ("text", "which"))
    job = job_of(make(None, **THOUGHTS), labels="which", reasoning=True)
    run(source, tmp_path / "out.csv", job)
    first, without, last = cells_of(tmp_path / "out.csv")
    assert without["reasoning"] == without["cut"] == without["agreement"] == ""
    assert first["reasoning"]
    assert last["label"] in ("b", "c")
    assert 0 <= float(last["standard_error"]) < 1


def test_thoughts_come_back_as_they_were():
    chains = (
        Chain("Ü\ud800 \0", (1,), (2,), 1, True, np.array([-0.1, -np.inf])),
        Chain("", (), (2,), 0, False, np.array([-2.5, -1e-300])),
    )
    values = np.array([[-0.5, -1.5]])
    scores = LabelLogprobs(
        *(values, np.array(["a", "b"]), values, values, np.zeros(1)),
        *(np.zeros(1, dtype=bool), np.ones(1, dtype=np.int64)),
        reasoning=(Reasoning(chains, ("a", "b")),),
    )
    [found] = unpack_scores(pack_scores(scores), ["a", "b"]).scores.reasoning
    for one, other in zip(found.chains, chains, strict=True):
        assert (one.text, one.n_tokens, one.cut) == (
            *(other.text, other.n_tokens, other.cut),
        )
        assert one.logprobs.tolist() == other.logprobs.tolist()
    assert found.standard_error.tolist() == scores.reasoning[0].standard_error.tolist()


def test_thoughts_of_a_strategy_that_has_none_are_refused(source):
    message = "reasoning is for strategy='reason': give that, or drop reasoning."
    with raises(message, ConfigError):
        job_of(reasoning=True).check(open_table(source))


class Rounds(FakeEngine):
    """A hash function that notes how many requests each of its batches has."""

    def __init__(self, *script, **options):
        super().__init__(*script, **options)
        self.sizes = []

    def poll(self):
        done = super().poll()
        self.sizes += [len(done)] if done else []
        return done


def rounds(next_logprobs, window):
    return Rounds.from_function(next_logprobs, len(byte_level()), window=window)


def test_chains_of_a_text_are_read_side_by_side():
    engine = rounds(hashed_logprobs(len(byte_level())), window=64)
    clf = make(engine=engine, **THOUGHTS, tolerance=0.0)
    clf.label_logprobs(TEXTS)
    # The thoughts of all texts, and then what stands behind each of them.
    assert engine.sizes == [len(TEXTS), 3 * len(TEXTS)]


@pytest.mark.parametrize("window", [1, 2, 64])
def test_a_bad_chain_is_the_error_of_its_row(window):
    """A row of which one chain cannot be read, as soon as or after the others can."""
    good = make(**THOUGHTS).label_logprobs(TEXTS)
    for which in range(3):
        chain = good.reasoning[1].chains[which]
        bad = chain.token_ids + chain.closing_token_ids
        hashed = hashed_logprobs(len(byte_level()))

        def next_logprobs(ids, bad=bad, hashed=hashed):
            is_bad = any(ids[at : at + len(bad)] == bad for at in range(len(ids)))
            return hashed(ids) * np.nan if is_bad else hashed(ids)

        clf = make(engine=rounds(next_logprobs, window), **THOUGHTS)
        texts = pd.DataFrame({"text": TEXTS})
        frame = clf.classify_frame(texts, on_error="set_aside")
        assert frame["error"][1].startswith("The model's log-probabilities for this")
        rest = [0, 2, 3, 4]
        pd.testing.assert_frame_equal(frame.iloc[rest], frame_of().iloc[rest])
