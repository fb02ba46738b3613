"""GGUF files through llama.cpp; the contract suite has the values of a tiny model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import choose_engine, clear_engines, load_engine, read
from classify.engines.llamacpp.engine import LlamaCppEngine
from classify.engines.llamacpp.network import Model, Network, Token, log_softmax
from classify.errors import ConfigError, EngineError, ModelLoadError
from classify.tokenizer import Segment, load_tokenizer
from classify.tracking import ReadRequest
from tests.real_model import gguf_file, transformers_folder
from tests.tiny_gguf import TOKENS, write_gguf
from tests.tiny_models import make_model, make_reference, random_prompt, random_tree

TREE = random_tree(n_paths=15)
INNER = tuple(TREE.inner_nodes.tolist())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A GGUF file of the network behind `make_reference("llama")`."""
    return write_gguf(
        tmp_path_factory.mktemp("gguf") / "tiny.gguf", make_model("llama")
    )


def refused(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


# ------------------------------------------------------------------ which engine


def test_auto_takes_a_gguf_file(tiny):
    assert choose_engine("auto", tiny) == ("llamacpp", "")
    assert choose_engine("auto", "some/Model.GGUF") == ("llamacpp", "")
    assert choose_engine("auto", tiny, options={"url": "http://a"}) == ("server", "")
    engine = load_engine("auto", tiny)
    assert isinstance(engine, LlamaCppEngine)
    assert load_engine("llamacpp", str(tiny)) is engine
    clear_engines()


def test_a_file_saved_again_is_loaded_again(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", make_model("llama"))
    engine = load_engine("llamacpp", path)
    assert load_engine("llamacpp", path) is engine
    write_gguf(path, make_model("llama"))
    assert load_engine("llamacpp", path) is not engine
    clear_engines()


def test_a_split_model_of_which_one_file_is_saved_again_is_loaded_again(tmp_path):
    def split(folder, seed):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "tiny.gguf"
        write_gguf(path, make_model("llama", seed), tensors_in_part=10)
        return sorted(path.parent.iterdir())

    first, *_, last = split("model", 0)
    *_, other = split("other", 1)
    request = ReadRequest(random_prompt(5), TREE, INNER)
    engine = load_engine("llamacpp", first)
    [before] = read(engine, [request])
    assert load_engine("llamacpp", first) is engine
    other.replace(last)
    [after] = read(load_engine("llamacpp", first), [request])
    assert np.abs(after - before)[1:].max() > 0.1
    clear_engines()


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        (
            "transformers",
            {},
            (
                "The transformers engine cannot load {path!r}: a GGUF file needs "
                "engine='llamacpp'."
            ),
        ),
        (
            "llamacpp",
            {"device": "cuda:1"},
            "device must be auto or cpu with engine='llamacpp'. Got 'cuda:1'.",
        ),
        (
            "llamacpp",
            {"dtype": "float16"},
            (
                "The llamacpp engine computes in the number format of the GGUF file, "
                "and dtype is 'float16': leave dtype out, or use a file in another "
                "format."
            ),
        ),
        (
            "llamacpp",
            {"revision": "main"},
            (
                "The llamacpp engine reads one file, and revision is 'main', which is "
                "for folders and the hub: leave revision out."
            ),
        ),
        (
            "llamacpp",
            {"n_ctx": 0},
            "n_ctx must be a whole number, at least 1, or None. Got 0.",
        ),
    ],
)
def test_what_it_does_not_take(tiny, engine, options, message):
    with refused(ConfigError, message.format(path=str(tiny))):
        load_engine(engine, tiny, **options)


# -------------------------------------------------------------------- its values


def test_with_little_memory_values_stay_the_same(tiny):
    # 135 tokens, fewer than the texts have together.
    network = Network(Model(tiny), n_batch=7)
    engine = LlamaCppEngine(network, batch_size=8)
    reference = make_reference("llama")
    prompts = [random_prompt(60 + n, n) for n in range(8)]
    for nodes in ((0,), INNER):
        answers = read(engine, [ReadRequest(each, TREE, nodes) for each in prompts])
        for prompt, edges in zip(prompts, answers, strict=True):
            expected = reference.edges(prompt, TREE, nodes)
            known = ~np.isnan(expected)
            np.testing.assert_allclose(edges[known], expected[known], atol=2e-5, rtol=0)
    engine.close()


def test_n_ctx_bounds_the_prompt(tiny):
    engine = LlamaCppEngine.load(tiny, n_ctx=40, n_threads=1, batch_size=2)
    assert engine.context_length == 40
    assert engine.describe() == {
        "model": "llama ?B (guessed) all F32, 0.0 M parameters",
        "context": "40 tokens",
        "keys and values": "552 tokens in float32",
        "in flight": "2 texts",
        "threads": "1",
    }
    engine.close()
    engine.close()
    engine.free_memory()
    with refused(EngineError, "This engine was closed: load it again."):
        engine.submit(ReadRequest((3,), TREE, (0,)))


# ------------------------------------------------------------- the file's tokenizer


def test_token_ids_are_those_of_the_files_vocabulary(tiny):
    tokenizer = load_tokenizer(tiny)
    vocabulary = {token: at for at, token in enumerate(TOKENS)}
    fast = FastTokenizer(models.BPE(vocabulary, [("a", "b")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    for text in ("abcab", "zyx", "a", "bab"):
        assert list(tokenizer.encode_text(text)) == fast.encode(text).ids
        assert tokenizer.decode(fast.encode(text).ids) == text
    assert len(tokenizer) == len(TOKENS)
    assert tokenizer.control_tokens == {0: "<pad>", 1: "<s>", 2: "</s>"}
    assert tokenizer.eos_id == 2
    assert tokenizer.pieces([3, len(TOKENS) - 1]) == ("a", "ab")


def test_what_a_text_spells_is_no_control_token(tiny):
    tokenizer = load_tokenizer(tiny)
    literal, data = Segment("<s>ab", is_data=False), Segment("</s>", is_data=True)
    [token_ids] = tokenizer.encode([[literal, data]])
    assert token_ids[:2] == (1, len(TOKENS) - 1)
    assert 2 not in token_ids


def test_its_chat_template_writes_messages(tiny):
    rendered = load_tokenizer(tiny).render_chat(
        [{"role": "user", "content": "ab"}], add_generation_prompt=True
    )
    assert rendered == "<s>userab</s><s>assistant"


# ------------------------------------------------------------------ files at fault

FAULTS = {
    "empty": (b"", "it is empty"),
    "a web page": (b"<!doctype html>", "it is a web page"),
    "something else": (b"PK\3\4", "it does not begin with GGUF"),
}


@pytest.mark.parametrize("load", [load_tokenizer, LlamaCppEngine.load])
@pytest.mark.parametrize("case", FAULTS)
def test_a_file_that_is_none(tmp_path, load, case):
    content, fault = FAULTS[case]
    path = tmp_path / "some.gguf"
    message = f"There is no GGUF file {str(path)!r} (looked in {Path.cwd()})."
    with refused(ModelLoadError, message):
        load(str(path))
    path.write_bytes(content)
    message = (
        f"{str(path)!r} is not a GGUF file: {fault}. Download it again, or give a GGUF "
        "file."
    )
    with refused(ModelLoadError, message):
        load(str(path))


def test_a_folder_names_no_file(tiny):
    message = (
        f"The folder {str(tiny.parent)!r} has no config.json, but it contains a model "
        f"in a single file: give the path of that file, {str(tiny)!r}."
    )
    with refused(ModelLoadError, message):
        load_tokenizer(tiny.parent)


def test_a_file_that_is_cut_off(tiny, tmp_path, capfd):
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny.read_bytes()[:-100])
    with pytest.raises(ModelLoadError) as caught:
        LlamaCppEngine.load(path)
    assert re.fullmatch(
        f"llama.cpp cannot load {str(path)!r}: tensor '.*' data is not within the file "
        "bounds, model is corrupted or incomplete. If it is not fully downloaded, "
        "download it again; if its architecture is newer than xllamacpp, upgrade that.",
        str(caught.value),
    )
    # It is said in the exception, and nowhere else.
    assert capfd.readouterr() == ("", "")


def test_a_model_that_sees_what_comes_later(tmp_path):
    path = write_gguf(tmp_path / "both.gguf", make_model("llama"), causal=False)
    message = (
        f"The model {str(path)!r} cannot be used with engine='llamacpp': its attention "
        "is not causal."
    )
    with refused(ModelLoadError, message):
        LlamaCppEngine.load(path)


# ------------------------------------------------------------------------- forks

FORKED = """
import json, os, sys
import numpy as np
from classify.engines import load_engine, read
from classify.errors import EngineError
from classify.tracking import ReadRequest, TokenTree

path = sys.argv[1]
requests = [ReadRequest((3, 4, 5), TokenTree([(6, 7), (6, 8), (9,)]), (0, 1))]
engine = load_engine("auto", path)
[expected] = read(engine, requests)
out, into = os.pipe()
child = os.fork()
if not child:
    try:
        read(engine, requests)
    except EngineError as error:
        message = str(error)
    [again] = read(load_engine("auto", path), requests)
    difference = float(np.nanmax(np.abs(again - expected)))
    os.write(into, json.dumps([message, difference]).encode())
    os._exit(0)
os.close(into)
with os.fdopen(out) as said:
    message, difference = json.load(said)
os.waitpid(child, 0)
[here] = read(engine, requests)
same = float(np.nanmax(np.abs(here - expected)))
print(json.dumps([message, difference, same, "torch" in sys.modules]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_loads_its_own(tiny):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tiny)],
        # GNU OpenMP waits for ever in a forked child whose parent had several threads.
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    message, difference, same, has_torch = json.loads(done.stdout)
    assert message.startswith("This engine was loaded by process ")
    # What the parent had kept by then costs a last digit.
    assert (difference, same < 1e-5, has_torch) == (0.0, True, False)


# --------------------------------------------------------------------- a real model

LABELS = ["billing", "shipping", "New York", "New", "naïve 😀", "technical problem"]
TEXTS = ["My invoice is wrong!", "Wo bleibt mein Paket?", "日本語 <|im_end|> 20261129"]


@pytest.fixture(scope="module")
def smollm2(pytestconfig):
    cache = pytestconfig.cache.mkdir("smollm2")
    return gguf_file(cache), transformers_folder(cache)


@pytest.mark.slow
def test_a_real_models_values_are_llama_cpps_own_but_for_its_rounding(smollm2):
    """Against a pass for each prompt and label; how much that differs from itself.

    llama.cpp rounds activations before quantized weights, and gives other values for
    tokens one at a time than for all at once.
    """
    file, _ = smollm2
    template = PromptTemplate("{text}\nTopic:", chat=False)
    clf = ZeroShotClassifier(LABELS, str(file), prompt=template, tolerance=0.0)
    found = clf.label_logprobs(TEXTS)
    tokenizer, network = load_tokenizer(file), Network(Model(file), n_ctx=512)
    prompts = [tokenizer.encode_text(f"{text}\nTopic:") for text in TEXTS]
    answers = [
        (*tokenizer.encode_text(f" {label}"), tokenizer.eos_id)
        for label in found.classes
    ]
    at_once, one_by_one = (
        np.array([[slow(network, p, a, n) for a in answers] for p in prompts])
        for n in (512, 1)
    )
    network.model.free()
    rounding = np.abs(one_by_one - at_once).mean()
    assert np.abs(found.values - at_once).mean() < 3 * rounding < 1.5
    differences = np.abs(softmax(found.values, axis=1) - softmax(at_once, axis=1))
    assert differences.mean() < 0.02


def slow(network, prompt, answer, n_together):
    """log p(answer | prompt): the sum over its tokens, behind nothing that is kept."""
    network.clear()
    values = []
    tokens = [Token(each, at, [0]) for at, each in enumerate((*prompt, *answer[:-1]))]
    for token, following in zip(tokens[len(prompt) - 1 :], answer, strict=True):
        token.uses.append(
            lambda logits, at=following: values.append(log_softmax(logits)[at])
        )
    for start in range(0, len(tokens), n_together):
        network.compute(tokens[start : start + n_together])
    assert len(values) == len(answer)
    return sum(values)


@pytest.mark.slow
def test_a_real_models_token_ids_are_those_of_transformers(smollm2):
    file, folder = smollm2
    ours, theirs = load_tokenizer(file), load_tokenizer(folder)
    # transformers makes its tokenizer of the file without the rule that parts numbers
    # from the space before them; where that would show ("a ½"), it is wrong.
    for text in (*TEXTS, *LABELS, "  two\n\n\ttabs", "I'll DON'T", "a — “b” 1/2", ""):
        assert ours.encode_text(text) == theirs.encode_text(text)
    messages = [{"role": "user", "content": "Hello"}]
    assert ours.render_chat(messages, add_generation_prompt=True) == (
        theirs.render_chat(messages, add_generation_prompt=True)
    )
    assert ours.control_ids == theirs.control_ids
    assert ours.eos_id == theirs.eos_id
