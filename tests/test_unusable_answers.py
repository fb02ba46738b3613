"""An answer that cannot be used is that of one text: never a label, never the end."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from classify import Verbalizer, ZeroShotClassifier
from classify.demo import model_folder, tickets_csv
from classify.engines import FakeEngine, clear_engines, generate, read
from classify.errors import AnswerError, DataError, InputError
from classify.jobs import ErrorLimit, estimate_job, open_table
from classify.jobs.labelled import read_labelled, score_labelled
from classify.jobs.pool import Texts, score_texts
from classify.labels import LabelSet
from classify.scoring import drive
from classify.scoring import generate as follow
from classify.tracking import ReadRequest, TokenTree, TrackedGeneration, TrackedRequest
from classify.trie import LabelTrie, WordPath
from classify.verbalizer import ScorablePrompt
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import ScatteredEngine, csv_of, job_of, make, rows_of, run
from tests.toy_model import hashed_logprobs

NAN, INF = float("nan"), float("inf")
TREE = TokenTree([(1, 2), (1, 3), (4,)])  # nodes: root, 1, 4, then 2 and 3 below 1
NO_NUMBER = (
    "The model's log-probabilities for this text are incomplete or NaN, so it gets no "
    "label. If the model computes in float16, which overflows easily, use bfloat16 or "
    "float32."
)


GO_ON = " Pass on_error='set_aside' to continue with the other rows."
LEAVE_OUT = (
    " Leave it out, or use classify_frame(…, on_error='set_aside'), which continues "
    "with the others."
)


def above_one(total):
    return (
        f"The model's probabilities for this text add up to {total}, and cannot be "
        "above 1: they are wrong, so it gets no label."
    )


def whole(message):
    return f"^{re.escape(message)}$"


# ------------------------------------------------------------------ a single answer


UNUSABLE = {
    "missing": ([NAN, NAN, NAN, NAN, NAN], NO_NUMBER),
    "first child missing": ([NAN, NAN, -1.0, NAN, NAN], NO_NUMBER),
    "last child missing": ([NAN, -1.0, NAN, NAN, NAN], NO_NUMBER),
    "unasked node half read": ([NAN, -1.0, -1.0, -1.0, NAN], NO_NUMBER),
    "all 0": ([NAN, 0.0, 0.0, NAN, NAN], above_one("2")),
    "together above 1": ([NAN, -0.5, -0.5, NAN, NAN], above_one("1.21")),
    "one above 1": ([NAN, 0.5, -9.0, NAN, NAN], above_one("1.65")),
    "at an unasked node": ([NAN, -1.0, -1.0, -0.1, -0.1], above_one("1.81")),
    "infinite": ([NAN, INF, -1.0, NAN, NAN], above_one("inf")),
    "huge": ([NAN, 1e300, -1.0, NAN, NAN], above_one("inf")),
    "too short": (
        [NAN, -1.0, -1.0],
        (
            "The engine must answer with an array of shape (5,), a value for each node "
            "of the token tree. Got (3,) instead."
        ),
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_read_is_the_error_of_its_text(case):
    values, message = UNUSABLE[case]
    with pytest.raises(AnswerError, match=whole(message)):
        read(FakeEngine([np.array(values)]), [ReadRequest((0,), TREE, (0,))])


@pytest.mark.parametrize(
    "values",
    [
        # Probabilities 1, rounded to bfloat16, and with a normaliser rounded to it.
        [NAN, -0.69140625, -0.69140625, NAN, NAN],
        [NAN, -0.625, -0.625, NAN, NAN],
        [NAN, -INF, -INF, NAN, NAN],
        [NAN, 0.0, -INF, 0.0, -INF],
        [7.0, -1.0, -1.0, NAN, NAN],
    ],
    ids=["rounded", "normaliser rounded", "impossible", "certain", "root is nothing"],
)
def test_rounding_and_impossible_tokens_are_no_fault(values):
    [edges] = read(FakeEngine([np.array(values)]), [ReadRequest((0,), TREE, (0,))])
    np.testing.assert_array_equal(edges, values)


@given(
    st.lists(
        st.one_of(st.floats(-5.0, 0.5), st.sampled_from([NAN, INF, -INF, 0.0, 1e308])),
        min_size=5,
        max_size=5,
    ),
    st.sampled_from([(), (0,), (1,), (0, 1)]),
)
def test_what_passes_is_a_distribution_at_every_node(values, nodes):
    edges = np.array(values)
    groups = [edges[1:3], edges[3:5]]
    totals = [np.exp(np.minimum(group, 9.0)).sum() for group in groups]
    is_right = all(
        (np.isnan(group).all() and node not in nodes)
        or (not np.isnan(group).any() and total <= np.exp(0.1))
        for node, group, total in zip((0, 1), groups, totals, strict=True)
    )
    engine, request = FakeEngine([edges]), ReadRequest((0,), TREE, nodes)
    if is_right:
        read(engine, [request])
    else:
        with pytest.raises(AnswerError):
            read(engine, [request])


GENERATED = {
    "untracked": (TrackedGeneration((1, 2), None), NO_NUMBER),
    "an id missing": (TrackedGeneration((1,), {1: [-1.0]}), NO_NUMBER),
    "a step missing": (TrackedGeneration((1, 2), {1: [-1.0], 4: [-1.0]}), NO_NUMBER),
    "NaN": (TrackedGeneration((1,), {1: [NAN], 4: [-1.0]}), NO_NUMBER),
    "above 1": (
        TrackedGeneration((1, 2), {1: [-1.0, 0.0], 4: [-1.0, 0.0]}),
        above_one("2"),
    ),
}


@pytest.mark.parametrize("case", GENERATED)
def test_an_unusable_generation_is_an_error(case):
    generation, message = GENERATED[case]
    with pytest.raises(AnswerError, match=whole(message)):
        generate(FakeEngine([(generation,)]), [TrackedRequest((0,), [1, 4, 4])])
    with pytest.raises(
        AnswerError,
        match=r"^The engine must answer with a tuple of 1 generations\. Got \(\) ",
    ):
        generate(FakeEngine([()]), [TrackedRequest((0,), [1])])


@pytest.mark.parametrize(
    "token_ids", [(), (1,), (1, 4), (4, 1), (9,)], ids=lambda each: str(each)
)
def test_a_generation_that_spells_no_label_is_an_error(token_ids):
    labels = LabelSet.parse(["a", "b", "c"])
    paths = [WordPath(0, "a", (1, 2)), WordPath(1, "b", (1, 3)), WordPath(2, "c", (4,))]
    prompt = ScorablePrompt((0,), LabelTrie(paths, labels), truncated=False)
    tracked = {token: [-2.0] * len(token_ids) for token in (1, 2, 3, 4)}
    engine = FakeEngine([(TrackedGeneration(token_ids, tracked),)])
    [(_, error)] = drive([follow(prompt)], engine)
    assert isinstance(error, AnswerError)
    assert str(error) == (
        f"The engine generated the tokens {list(token_ids)}, which spell none of the "
        "labels, although only labels were allowed."
    )


# ----------------------------------------------------------- one text among others

BYTES = len(byte_level())
# Of several tokens, so that there is more than one read.
LABELS = ("account access", "account change", "refund")
TEXTS = ["one.", "NaN", "two.", "three.", "NaN", "inf", "sum", "late", "one."]
REASONS = {
    "NaN": NO_NUMBER,
    "inf": above_one("inf"),
    "sum": above_one("2"),
    "late": NO_NUMBER,
}


def spoiling_engine(**options):
    """Return an engine whose answers about some texts cannot be used."""
    right = hashed_logprobs(BYTES)

    def next_logprobs(token_ids):
        prompt = byte_level().decode(token_ids)
        values = np.array(right(token_ids))
        if "NaN" in prompt or ("late" in prompt and not prompt.endswith(":")):
            values[:] = NAN
        elif "inf" in prompt:
            values[:] = INF
        elif "sum" in prompt:
            values[:] = 0.0
        return values

    return FakeEngine.from_function(next_logprobs, BYTES, **options)


def spoiled(engine=None, **options):
    """Return a classifier that cannot use some answers of its engine."""
    return make(LABELS, engine=engine or spoiling_engine(), **options)


def expected_errors(texts=TEXTS):
    return [REASONS.get(text, "") for text in texts]


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {}])
def test_a_frame_sets_such_rows_aside(options):
    frame = pd.DataFrame({"text": TEXTS}, index=[f"r{n}" for n in range(len(TEXTS))])
    clf = spoiled(**options)
    found = clf.classify_frame(frame, on_error="set_aside", probabilities=True)
    assert found["error"].tolist() == expected_errors()
    good = found["error"] == ""
    assert found["label"].notna().tolist() == good.tolist()
    alone = make(LABELS, **options).classify_frame(frame[good], probabilities=True)
    pd.testing.assert_frame_equal(found[good].drop(columns="error"), alone)
    with pytest.raises(AnswerError, match=whole(f"Row r1: {NO_NUMBER}{GO_ON}")):
        clf.classify_frame(frame)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "label_logprobs"])
def test_a_text_is_named_by_its_position(method):
    ask = getattr(spoiled(spoiling_engine(window=1)), method)
    with pytest.raises(AnswerError, match=whole(f"Text 1: {NO_NUMBER}{LEAVE_OUT}")):
        ask(TEXTS)
    message = f"Text 2: {above_one('2')}{LEAVE_OUT}"
    with pytest.raises(AnswerError, match=whole(message)):
        ask(["one.", "two.", "sum"])


def test_an_engine_goes_on_after_a_refusal():
    clf, right = spoiled(), make(LABELS)
    with pytest.raises(AnswerError):
        clf.predict(TEXTS)
    np.testing.assert_array_equal(clf.predict(["two."]), right.predict(["two."]))


def test_progress_counts_every_row_once():
    told = []
    frame = pd.DataFrame({"text": [*TEXTS, ""]})
    spoiled().classify_frame(frame, on_error="set_aside", progress=told.append)
    assert sum(told) == len(frame)


def engines():
    return {
        "at once": spoiling_engine,
        "one by one": lambda: spoiling_engine(window=1),
        "scattered": lambda: ScatteredEngine(spoiling_engine(), 5, window=3),
    }


@pytest.mark.parametrize("kind", engines())
@pytest.mark.parametrize("part_rows", [2, 100])
def test_a_job_sets_such_rows_aside(tmp_path, kind, part_rows):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])
    job = job_of(spoiled(engines()[kind]()))
    cache = tmp_path / "cache"
    outcome = run(source, tmp_path / "out.csv", job, part_rows=part_rows, cache=cache)
    header, *rows = rows_of(tmp_path / "out.csv")
    assert [row[header.index("error")] for row in rows] == expected_errors()
    assert [bool(row[header.index("label")]) for row in rows] == [
        not each for each in expected_errors()
    ]
    listed = rows_of(tmp_path / "out.csv.errors.csv")
    assert [(row[0], row[2]) for row in listed[1:]] == [
        (str(n), each) for n, each in enumerate(expected_errors(), 1) if each
    ]
    assert outcome.summary.n_labelled == expected_errors().count("")
    # No bad score is kept: a right engine, asked with the same cache, answers for it.
    again = make(LABELS)
    run(source, tmp_path / "right.csv", job_of(again), cache=cache)
    run(source, tmp_path / "alone.csv", job_of(make(LABELS)))
    assert (tmp_path / "right.csv").read_bytes() == (
        tmp_path / "alone.csv"
    ).read_bytes()
    bad = {text for text in TEXTS if text in REASONS}
    prompts = [
        byte_level().decode(request.prompt_token_ids)
        for request in again.engine.requests
    ]
    assert all(any(text in prompt for text in bad) for prompt in prompts)


@pytest.mark.parametrize("n_finished", range(0, 40, 5))
def test_a_job_that_goes_on_gives_the_same_bytes(tmp_path, n_finished):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS * 2])
    run(source, tmp_path / "whole.csv", job_of(spoiled()))
    n_left = [n_finished]

    def stopping():
        n_left[0] -= 1
        return n_left[0] < 0

    for each in (stopping, lambda: False):
        engine = ScatteredEngine(spoiling_engine(), n_finished, window=2)
        outcome = run(
            source,
            tmp_path / "out.csv",
            job_of(spoiled(engine)),
            part_rows=3,
            stopping=each,
        )
    assert outcome.is_complete
    for end in ("", ".errors.csv"):
        assert (tmp_path / f"out.csv{end}").read_bytes() == (
            tmp_path / f"whole.csv{end}"
        ).read_bytes()


def test_a_worker_gives_the_reason_in_place_of_scores():
    scorer = spoiled().scorer()
    keys = [b"%d" % at for at in range(len(TEXTS))]
    texts = Texts(keys, [{"text": text} for text in TEXTS], None)
    records = score_texts([scorer], texts).records
    assert [each if isinstance(each := records[key], str) else "" for key in keys] == (
        expected_errors()
    )


def test_a_model_that_fails_for_every_row_labels_nothing(tmp_path):
    source = csv_of(tmp_path / "in.csv", [["NaN 1"], ["NaN 2"]])
    outcome = run(source, tmp_path / "out.csv", job_of(make(engine=spoiling_engine())))
    assert (outcome.summary.n_rows, outcome.summary.n_scored) == (2, 0)
    assert outcome.summary.reasons == {NO_NUMBER: 2}


def test_a_job_whose_first_rows_all_fail_says_so_at_once(tmp_path, caplog):
    source = csv_of(tmp_path / "in.csv", [[f"NaN {n}"] for n in range(6)])
    told = []
    for options in (
        {"part_rows": 2},
        {},
        {"part_rows": 2, "max_errors": ErrorLimit(9)},
    ):
        caplog.clear()
        job = job_of(make(engine=spoiling_engine()))
        run(source, tmp_path / "out.csv", job, **options)
        told.append([each.getMessage() for each in caplog.records])
    # One part has no other rows to go on with, and a limit was set with thought.
    assert told == [
        [
            (
                f"None of the first 2 rows could be classified. 2 of them: {NO_NUMBER} "
                "The job continues with the other rows: stop it if they cannot succeed "
                "either, or set max_errors to let it stop by itself."
            )
        ],
        [],
        [],
    ]


def test_what_is_labelled_is_used_without_such_rows(tmp_path):
    source = csv_of(
        tmp_path / "in.csv",
        [[text, "refund"] for text in TEXTS],
        columns=("text", "label"),
    )
    clf = spoiled()

    def scored(path):
        labelled = read_labelled(
            open_table(path),
            LabelSet.parse(clf.labels),
            fields=("text",),
            text_column="text",
            label_column="label",
        )
        return score_labelled(clf, labelled)

    texts = scored(source)
    assert texts.texts == ["one.", "two.", "three.", "one."]
    assert texts.set_aside == {NO_NUMBER: 3, above_one("inf"): 1, above_one("2"): 1}
    none = csv_of(
        tmp_path / "none.csv",
        [["", "refund"], ["NaN", "refund"]],
        columns=("text", "label"),
    )
    # The model fails: exit 1, and not the 2 of a mistake in the input.
    message = f"None of the 2 rows can be used: {NO_NUMBER}"
    with pytest.raises(AnswerError, match=whole(message)):
        scored(none)


def test_an_estimate_counts_such_rows():
    texts = [f"text {n}." for n in range(30)] + ["NaN", "sum", ""]
    job = job_of(spoiled())
    estimate = estimate_job(job, open_table(pd.DataFrame({"text": texts})))
    assert estimate.n_drawn == 33
    assert estimate.bad == {
        NO_NUMBER: 1,
        above_one("2"): 1,
        "there is no text: it is empty or missing.": 1,
    }


# ------------------------------------------------------- what an engine cannot be asked


def outside(token, vocab_size):
    return (
        f"prompt_token_ids holds {token}, which is outside the vocabulary of "
        f"{vocab_size} tokens: ids must be in [0, {vocab_size})."
    )


def test_a_token_that_the_model_has_not_is_the_error_of_its_text(tmp_path):
    # The last token of the tokenizer is none of the model's.
    vocab_size = len(byte_level()) - 1
    last = byte_level().decode([vocab_size])
    assert byte_level().encode_text(last) == (vocab_size,)
    right = hashed_logprobs(BYTES)
    texts = ["one.", f"{last}.", "two."]

    def engine():
        return FakeEngine.from_function(lambda ids: right(ids)[:-1], vocab_size)

    reason = outside(vocab_size, vocab_size)
    with pytest.raises(InputError, match=whole(f"Text 1: {reason}")):
        make(engine=engine()).predict(texts)
    frame = pd.DataFrame({"text": texts}, index=[5, 6, 7])
    with pytest.raises(DataError, match=whole(f"Row 6: {reason}{GO_ON}")):
        make(engine=engine()).classify_frame(frame)
    found = make(engine=engine()).classify_frame(frame, on_error="set_aside")
    assert found["error"].tolist() == ["", reason, ""]
    source = csv_of(tmp_path / "in.csv", [[text] for text in texts])
    run(source, tmp_path / "out.csv", job_of(make(engine=engine())))
    assert [row[-1] for row in rows_of(tmp_path / "out.csv")[1:]] == ["", reason, ""]


class RefusingEngine:
    """Refuses texts in `submit`: also those that were begun, at a later read."""

    name = "fake"

    def __init__(self, *, first):
        self._engine, self._first = spoiling_engine(), first
        self.window, self.vocab_size = 4, self._engine.vocab_size
        self.context_length = self._engine.context_length

    def submit(self, request):
        prompt = byte_level().decode(request.prompt_token_ids)
        if "two" in prompt and self._first == (0 in request.nodes):
            raise InputError("not this text.")
        return self._engine.submit(request)

    def poll(self):
        return self._engine.poll()

    def close(self):
        self._engine.close()


@pytest.mark.parametrize("first", [True, False])
def test_an_engine_may_refuse_a_text_at_any_read(tmp_path, first):
    texts = ["one.", "two.", "two, too.", "three."]
    source = csv_of(tmp_path / "in.csv", [[text] for text in texts])
    job = job_of(spoiled(RefusingEngine(first=first), tolerance=1e-9))
    run(source, tmp_path / "out.csv", job, part_rows=3)
    errors = [row[-1] for row in rows_of(tmp_path / "out.csv")[1:]]
    assert errors == ["", "not this text.", "not this text.", ""]
    clf = spoiled(RefusingEngine(first=first), tolerance=1e-9)
    with pytest.raises(InputError, match=whole("Text 1: not this text.")):
        clf.predict(texts)


# ------------------------------------------------------------- a real model's NaN


@pytest.fixture(scope="module")
def broken_model(tmp_path_factory):
    """The demo model, which computes NaN for texts with §, as by an overflow."""
    folder = tmp_path_factory.mktemp("broken") / "model"
    model = AutoModelForCausalLM.from_pretrained(model_folder())
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    embeddings = model.get_input_embeddings().weight
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(embeddings.detach().clone())
    token = tokenizer("§", add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        embeddings[token] = NAN
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder
    clear_engines()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tolerance": 0.0},
        {"strategy": "generate"},
        {"engine_options": {"attn_implementation": "eager"}},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_a_models_nan_stays_in_its_row(broken_model, options):
    # Of all lengths, so that there is padding beside it.
    texts = pd.read_csv(tickets_csv())["text"].str.strip().tolist()
    texts = [text[: 10 + 9 * n] for n, text in enumerate(texts)]
    spoiled = {0: "§", len(texts) // 2: "§ and so on", len(texts) - 1: "§ " * 90}
    labels = ["billing", "shipping", "refund or return", "account access"]
    clf = ZeroShotClassifier(labels, str(broken_model), device="cpu", **options)
    right = clf.classify_frame(pd.DataFrame({"text": texts}), probabilities=True)
    mixed = [spoiled.get(n, text) for n, text in enumerate(texts)]
    found = clf.classify_frame(
        pd.DataFrame({"text": mixed}), probabilities=True, on_error="set_aside"
    )
    assert dict.fromkeys(spoiled, NO_NUMBER) == {
        n: each for n, each in enumerate(found["error"]) if each
    }
    good = [n for n in range(len(texts)) if n not in spoiled]
    columns = [name for name in found if name.startswith("p(")]
    np.testing.assert_allclose(
        found[columns].to_numpy()[good],
        right[columns].to_numpy()[good],
        atol=0.05 if options.get("dtype") == "bfloat16" else 1e-4,
    )


# ----------------------------------------------------- labels that a row cannot have


def test_labels_that_cannot_be_asked_are_the_error_of_their_row(tmp_path):
    def clf():
        return make(None, verbalizer=Verbalizer(case_variants=True))

    rows = [
        ["one.", "billing|refund"],
        ["two.", "billing|Billing"],
        ["three.", "refund|billing"],
    ]
    source = csv_of(tmp_path / "in.csv", rows, columns=("text", "of"))
    run(source, tmp_path / "out.csv", job_of(clf(), labels="of"))
    header, *found = rows_of(tmp_path / "out.csv")
    errors = [row[header.index("error")] for row in found]
    assert [bool(each) for each in errors] == [False, True, False]
    assert (
        "the model cannot tell them apart. Give one of them another word."
        in (errors[1])
    )
    frame = pd.DataFrame(rows, columns=["text", "of"], dtype=object)
    frame.loc[2, "of"] = "refund|bill\ud83d"
    framed = clf().classify_frame(frame, labels_column="of", on_error="set_aside")
    assert [bool(each) for each in framed["error"]] == [False, True, True]
    assert framed["error"][1] == errors[1]
