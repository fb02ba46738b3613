"""Engines in processes that are forked from one that has used them."""

import gc
import json
import multiprocessing.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from classify.engines import read
from classify.errors import EngineError, ModelLoadError
from classify.tracking import ReadRequest
from tests.tiny_models import make_reference, random_prompt, random_tree

SCRIPT = """
import json, logging, os, sys
import numpy as np
from classify import ZeroShotClassifier
from tests.serving import SmallServer
from tests.toy_jobs import make

logging.getLogger("classify.rows.prompted_model").setLevel("ERROR")  # low label masses
LABELS = ["billing", "shipping", "refund"]
TEXTS = [f"Where is parcel {n}? I paid {n}." + " please" * (n % 7) for n in range(8)]
by_name = ZeroShotClassifier(LABELS, device="cpu")
engine = by_name.load_engine()
as_object = ZeroShotClassifier(LABELS, engine=engine)
fake = make()
vocab_size = engine.vocab_size
logprobs = np.full(vocab_size, -np.log(vocab_size))
server = SmallServer(lambda _: logprobs, vocab_size)
server.start()
served = ZeroShotClassifier(
    LABELS, engine="server", engine_options={"url": server.url, "self_test": False}
)
served_engine = served.load_engine()
served_object = ZeroShotClassifier(LABELS, engine=served_engine)
classifiers = {
    "by name": by_name,
    "engine": as_object,
    "fake": fake,
    "server by name": served,
    "server engine": served_object,
}
expected = {name: clf.predict_proba(TEXTS) for name, clf in classifiers.items()}


def difference(name):
    try:
        found = classifiers[name].predict_proba(TEXTS)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return float(np.abs(found - expected[name]).max())


out, into = os.pipe()
child = os.fork()
if not child:
    answers = {name: difference(name) for name in classifiers}
    os.write(into, json.dumps([os.getpid(), answers]).encode())
    sys.exit()
os.close(into)
with os.fdopen(out) as said:
    in_child = json.load(said)
assert os.waitpid(child, 0)[1] == 0
here = {name: difference(name) for name in classifiers}
print(json.dumps([os.getpid(), *in_child, here]))
"""


def forked_message(parent, child):
    return (
        f"This engine was loaded by process {parent}, and cannot be used in process "
        f"{child}, which was forked from it. Load the engine in each worker, after the "
        "fork, or start the workers with 'spawn' "
        "(multiprocessing.get_context('spawn'))."
    )


@pytest.mark.slow
def test_a_forked_child_answers_or_is_told_what_to_do():
    environment = os.environ | {
        # GNU OpenMP waits for ever in a forked child whose parent had several threads.
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    environment.pop("TOKENIZERS_PARALLELISM", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parent, child, answers, here = json.loads(done.stdout)
    message = f"EngineError: {forked_message(parent, child)}"
    assert answers.pop("engine") == message
    assert answers.pop("server engine") == message
    # Loaded again, or (the fake one) with nothing that a fork leaves behind.
    assert answers == dict.fromkeys(("by name", "fake", "server by name"), 0.0)
    assert set(here.values()) == {0.0}
    notes = [line for line in done.stderr.splitlines(True) if "label mass" not in line]
    assert "".join(notes) == (
        "This process was forked from one that had imported PyTorch, so it computes on "
        "one thread. Start the workers with 'spawn' "
        "(multiprocessing.get_context('spawn')) so that each can use more.\n"
    )


@pytest.mark.parametrize("vllm_engine", ["vllm"], indirect=True)
def test_a_forked_child_leaves_its_parents_vllm_alone(vllm_engine):
    from classify.engines.vllm.engine import VllmEngine

    tree = random_tree()
    request = ReadRequest(random_prompt(6), tree, (0,))
    out, into = os.pipe()
    child = os.fork()
    if not child:
        said = []
        for attempt in (
            lambda: read(vllm_engine, [request]),
            lambda: VllmEngine.load("somewhere"),
        ):
            try:
                attempt()
            except (EngineError, ModelLoadError) as error:
                said.append(str(error))
        # As at the end of a process.
        vllm_engine.close()
        del vllm_engine
        gc.collect()
        multiprocessing.util._exit_function()
        os.write(into, json.dumps(said).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        used, started = json.load(pipe)
    assert os.waitpid(child, 0)[1] == 0
    assert used == forked_message(os.getpid(), child)
    assert re.fullmatch(
        rf"vLLM runs in the process from which this one \({child}\) was forked, and "
        r"cannot be used or started here\. Load the engine in the workers only, or "
        r"start them with 'spawn' \(multiprocessing\.get_context\('spawn'\)\)\.",
        started,
    )
    [edges] = read(vllm_engine, [request])
    expected = make_reference("llama_wide_heads").edges(
        request.prompt_token_ids, tree, (0,)
    )
    known = ~np.isnan(expected)
    np.testing.assert_allclose(edges[known], expected[known], atol=2e-5)
