"""The vLLM engine as a whole: how it starts, what it answers, how it ends."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify import PromptTemplate, ZeroShotClassifier
from classify.demo import model_folder, tickets_csv
from classify.engines import load_engine, read
from classify.engines.vllm.engine import VllmEngine
from classify.engines.vllm.facts import prefix_cache
from classify.errors import ConfigError, EngineError, InputError, ModelLoadError
from classify.jobs import Classification, RowColumns, open_table, run_job
from classify.scoring import drive
from classify.tracking import ReadRequest, TokenTree, TrackedRequest
from tests.interrupting import not_for_ever
from tests.vllm_engines import EVAL_LM, WITH_PROCESSES, ended, engine_processes

DEMO = pytest.mark.parametrize("vllm_engine", ["vllm demo"], indirect=True)
TREE = TokenTree([(7, 8, 9), (7, 8, 10), (7, 11, 12), (13, 14, 15)])
NODES = tuple(TREE.inner_nodes.tolist())


# What cannot be started is said before anything is

REFUSED = {
    "a model object": (
        (object(),),
        {},
        ConfigError,
        (
            "The vllm engine loads models by name: give a folder or a hub id, not "
            "an object of type object."
        ),
    ),
    "an unknown option": (
        (model_folder(),),
        {"gpu_memory_utilisation": 0.5},
        ConfigError,
        (
            "vLLM does not know one of the options ['gpu_memory_utilisation']: "
            "EngineArgs.__init__() got an unexpected keyword argument "
            "'gpu_memory_utilisation'"
        ),
    ),
    "another device": (
        (model_folder(),),
        {"device": "tpu"},
        ConfigError,
        (
            "The installed vLLM computes on 'cpu', not on 'tpu'. Use device='auto', "
            "or engine='transformers'."
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_started_is_refused(case):
    pytest.importorskip("vllm")
    arguments, options, kind, message = REFUSED[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        load_engine("vllm", *arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no folder", "no model in it", "wrong sizes"])
def test_a_model_that_cannot_be_loaded_says_why(tmp_path, case):
    pytest.importorskip("vllm")
    folder, options = tmp_path / "none", {}
    message = (
        f"There is no folder {str(folder)!r} (looked in {Path.cwd()}). Give a folder "
        "with config.json and weights, or a hub id such as 'Qwen/Qwen2.5-0.5B'."
    )
    if case == "no model in it":
        folder = tmp_path
        message = (
            f"The folder {str(folder)!r} contains no model: it has no config.json. "
            "Give the folder of a saved or downloaded model."
        )
    if case == "wrong sizes":
        folder, options = model_folder(), {"max_num_batched_tokens": 1, "batch_size": 4}
        message = (
            f"vLLM cannot load the model {str(folder)!r}: max_num_batched_tokens (1) "
            "must be greater than or equal to max_num_seqs (4)."
        )
    with pytest.raises(ModelLoadError, match=f"^{re.escape(message)}$"):
        VllmEngine.load(folder, **options)


# An engine that runs


@DEMO
def test_vllm_sends_no_usage_reports(vllm_engine):
    from vllm.usage.usage_lib import is_usage_stats_enabled

    assert not is_usage_stats_enabled()


@DEMO
def test_it_says_what_it_is(vllm_engine):
    assert repr(vllm_engine) == f"VllmEngine({str(model_folder())!r})"
    assert vllm_engine.__sklearn_clone__() is vllm_engine
    assert vllm_engine.speculation_figures() is None
    assert (vllm_engine.vocab_size, vllm_engine.context_length) == (4096, 511)
    assert vllm_engine.describe()["prefix cache"] == "blocks of 128 tokens"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"block_size": 16}, "blocks of 16 tokens"),
        (
            {"block_size": 16, "mamba_block_size": 1056},
            (
                "blocks of 1,056 tokens: a further read of a text computes up to as "
                "many again, so a tolerance above 0, which needs few reads, saves most "
                "here"
            ),
        ),
        (
            {"block_size": 16, "enable_prefix_caching": False},
            (
                "off: each further read of a text computes the whole text again, so a "
                "tolerance above 0, which needs few reads, saves most here"
            ),
        ),
    ],
)
@pytest.mark.slow
def test_it_says_what_further_reads_find_computed(options, says):
    config = pytest.importorskip("vllm.config")
    assert prefix_cache(config.CacheConfig(**options)) == says


@DEMO
def test_the_window_is_what_runs_at_once(vllm_engine):
    assert vllm_engine.window == 16


@DEMO
def test_a_read_of_all_nodes_is_a_request_for_each_chain(vllm_engine):
    before = vllm_engine.n_requests
    [edges] = read(vllm_engine, [ReadRequest((3, 4, 5), TREE, NODES)])
    assert not np.isnan(edges[1:]).any()
    # (7, 8), (7, 11), (13, 14): the first of them from the root on.
    assert vllm_engine.n_requests - before == 3


@DEMO
def test_a_temperature_that_vllm_refuses_is_refused_first(vllm_engine):
    message = "temperature must be at most 2 with the vllm engine. Got 2.5 instead."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        vllm_engine.submit(TrackedRequest((3,), temperature=2.5))
    assert vllm_engine.poll() == []


# Probabilities are those of the transformers engine

LABELS = {
    "two": ["billing", "shipping"],
    "prefix": ["account", "account access", "account access by phone", "access"],
    "words": {"bad": ["negative", "bad", "not good"], "good": ["positive", "good"]},
    "many": [
        f"{a} {b} {c}"
        for a in ("order", "account", "card", "parcel", "invoice")
        for b in ("was lost", "is new", "needs help", "has a fee", "question", "late")
        for c in ("today", "again", "abroad", "online", "in store")
    ],
}
WAYS = {
    "exact": {"tolerance": 0.0},
    "to a tolerance": {"tolerance": 1e-3},
    "generated": {"strategy": "generate"},
}
MORE_WAYS = {
    "in several forms": {
        "prompt": PromptTemplate(answer="both", n_orders=2),
        "tolerance": 0.0,
    },
    "after thinking": {
        "strategy": "reason",
        "max_reasoning_tokens": 8,
        "tolerance": 0.0,
    },
}
MODELS = {
    "vllm demo": "demo",
    "vllm demo, eagle": "demo",
    "vllm demo, labels": "demo",
    "vllm demo, ngram": "demo",
    "vllm eval-lm": str(EVAL_LM),
}


@pytest.fixture
def model(request):
    model = MODELS[request.node.callspec.params["vllm_engine"]]
    if model != "demo" and not EVAL_LM.exists():
        pytest.skip("needs ../shared/models")
    return model


@pytest.mark.parametrize("vllm_engine", MODELS, indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("labels", LABELS)
def test_probabilities_are_those_of_the_transformers_engine(
    model, vllm_engine, labels, way
):
    texts = pd.read_csv(tickets_csv())["text"][: 4 if labels == "many" else 12]
    options = dict(WAYS[way])
    if labels == "many":  # a prompt that lists them all would be too long
        options["prompt"] = PromptTemplate("{text}\nTopic:", chat=False)
    ours, theirs = (
        ZeroShotClassifier(
            LABELS[labels], model, engine=engine, **options
        ).label_logprobs(texts)
        for engine in (vllm_engine, "transformers")
    )
    if way != "to a tolerance":
        # The same nodes are read.
        np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=1e-4)
        np.testing.assert_allclose(ours.proba, theirs.proba, rtol=0, atol=1e-4)
        return
    # vLLM reads further nodes on its way: what both have resolved is equal.
    both = (ours.lower == ours.upper) & (theirs.lower == theirs.upper)
    assert both.any(axis=1).all()
    np.testing.assert_allclose(
        ours.values[both], theirs.values[both], rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(ours.proba, theirs.proba, rtol=0, atol=1e-3)
    assert (ours.lower <= theirs.upper + 1e-4).all()
    assert (theirs.lower <= ours.upper + 1e-4).all()


@pytest.mark.parametrize(
    "vllm_engine", ["vllm demo", "vllm demo, labels"], indirect=True
)
@pytest.mark.parametrize("way", MORE_WAYS)
def test_averages_are_those_of_the_transformers_engine(vllm_engine, way):
    texts = pd.read_csv(tickets_csv())["text"][:6]
    ours, theirs = (
        ZeroShotClassifier(
            LABELS["prefix"], engine=engine, **MORE_WAYS[way]
        ).label_logprobs(texts)
        for engine in (vllm_engine, "transformers")
    )
    np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=1e-4)
    if way == "after thinking":
        assert [each.text for each in ours.reasoning] == [
            each.text for each in theirs.reasoning
        ]
    else:
        np.testing.assert_array_equal(ours.agreement, theirs.agreement)


@DEMO
def test_a_job_gives_what_transformers_gives(vllm_engine, tmp_path):
    # More texts than are in flight, in chunks that they overlap.
    source = tmp_path / "in.csv"
    tickets = pd.read_csv(tickets_csv())["text"]
    texts = [f"{text} No. {n}." for n in range(4) for text in tickets]
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    frames = []
    for engine in (vllm_engine, "transformers"):
        job = Classification(
            classifier=ZeroShotClassifier(
                LABELS["prefix"], engine=engine, tolerance=0.0
            ),
            columns=RowColumns(text="text"),
            probabilities=True,
        )
        run_job(job, open_table(source), tmp_path / "out.csv", part_rows=16)
        frames.append(pd.read_csv(tmp_path / "out.csv"))
    ours, theirs = frames
    assert vllm_engine.asynchronous
    assert ours["text"].tolist() == theirs["text"].tolist() == texts
    assert ours["label"].tolist() == theirs["label"].tolist()
    numbers = theirs.select_dtypes("number").columns
    np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=0, atol=1e-5)


# A process that is killed is an error, and nothing else is lost


def reading(prompt):
    """A strategy that asks three times, as a walk does."""
    [root, *others] = NODES
    edges = yield ReadRequest(prompt, TREE, (root,))
    for nodes in (others[:2], others[2:]):
        more = yield ReadRequest(prompt, TREE, tuple(nodes))
        edges = np.where(np.isnan(edges), more, edges)
    return edges


@pytest.mark.parametrize("vllm_engine", [WITH_PROCESSES], indirect=True)
@pytest.mark.parametrize("killed", ["engine", "worker"])
def test_a_killed_process_is_one_error_and_what_was_finished_stays(
    vllm_engines, vllm_engine, killed
):
    prompts = [(5, at, at + 1, at + 2) for at in range(6, 306)]
    expected = read(vllm_engine, [ReadRequest(p, TREE, NODES) for p in prompts])
    processes = engine_processes()
    finished, results = {}, drive(map(reading, prompts), vllm_engine, window=8)
    while len(finished) < 40:
        finished.update([next(results)])
    processes[killed].kill()
    with pytest.raises(EngineError, match=DIED), not_for_ever():
        finished.update(results)
    assert 40 <= len(finished) < len(prompts)
    for at, edges in finished.items():
        np.testing.assert_allclose(edges, expected[at], rtol=0, atol=1e-5)
    check_closed(vllm_engine)
    assert ended(processes.values())
    # The same model, started again, answers as before: here in this process, once.
    another = WITH_PROCESSES if killed == "engine" else "vllm demo"
    again = vllm_engines(another)
    assert again is not vllm_engine
    [edges] = read(again, [ReadRequest(prompts[0], TREE, NODES)])
    np.testing.assert_allclose(edges, expected[0], rtol=0, atol=1e-5)


DIED = re.compile(
    r"^vLLM died with \d+ requests in flight \(EngineDeadError\): see its own message "
    r"above, and load the engine again\.$"
)


def check_closed(engine):
    assert engine.closed
    assert repr(engine) == "VllmEngine(closed)"
    assert engine.speculation_figures() is None
    assert engine.poll() == []
    for ask in (lambda: engine.submit(ReadRequest((3,), TREE, NODES)), engine.describe):
        with pytest.raises(
            EngineError, match=r"^This engine was closed: load it again\.$"
        ):
            ask()
    engine.close()  # once more does nothing
