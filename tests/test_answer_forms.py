"""What the answer is, and orders of the options, against one pass a label and order."""

import itertools
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from classify import LabelSet, PromptTemplate, ZeroShotClassifier
from classify.demo import model_folder
from classify.errors import ConfigError, PromptError
from classify.jobs import Classification, open_table, run_job
from classify.prompts.listing import codes, orders
from tests.tiny_tokenizers import byte_level

NAMES = ("shipping", "billing", "technical problem", "refund")
TEXTS = ["My invoice is wrong and nobody answers.", "Where is my parcel?", "It broke"]


@pytest.fixture(scope="module")
def demo():
    folder = model_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(folder), model


def prompt_text(tokenizer, text, names, *, as_code, chat):
    """Write the prompt out as people would."""
    listed = ", ".join(names)
    if as_code:
        listed = "\n".join(f"{c}. {n}" for c, n in zip("ABCD", names, strict=True))
    if not chat:
        if as_code:
            tail = "Letter of the category:"
            return f"{tokenizer.bos_token}Categories:\n{listed}\n\nText: {text}\n{tail}"
        return f"{tokenizer.bos_token}Categories: {listed}\n\nText: {text}\nCategory:"
    asked = "Which of these categories describes the text best"
    content = (
        f"{asked}?\n{listed}\n\nText: {text}\n\nAnswer with the letter only."
        if as_code
        else f"{asked}: {listed}?\n\nText: {text}\n\nAnswer with the category only."
    )
    messages = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


@torch.inference_mode()
def slow(demo, text, order, *, as_code, chat):
    """p(label | text), in the declared order: a pass over each joint text."""
    tokenizer, model = demo
    names = [NAMES[at] for at in order]
    before = prompt_text(tokenizer, text, names, as_code=as_code, chat=chat)
    start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    found = np.empty(len(NAMES))
    for place, at in enumerate(order):
        word = "ABCD"[place] if as_code else NAMES[at]
        whole = before + ("" if chat else " ") + word
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].double()
        logprobs = torch.log_softmax(logits, dim=-1)
        total = sum(float(logprobs[j - 1, ids[j]]) for j in range(start, len(ids)))
        found[at] = np.exp(total)
    return found


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    ("answer", "n_orders"), [("code", 1), ("both", 1), ("text", 4), ("both", 6)]
)
def test_probabilities_are_the_mean_of_all_prompts(demo, answer, n_orders, chat):
    forms = {"text": [False], "code": [True], "both": [False, True]}[answer]
    clf = ZeroShotClassifier(
        NAMES,
        prompt=PromptTemplate(answer=answer, n_orders=n_orders, chat=chat),
        engine="transformers",
        tolerance=0.0,
    )
    found = clf.label_logprobs(TEXTS)
    columns = [NAMES.index(name) for name in found.classes]
    agreement = []
    for at, text in enumerate(TEXTS):
        looks = np.array(
            [
                slow(demo, text, order, as_code=as_code, chat=chat)
                for order in orders(len(NAMES), n_orders)
                for as_code in forms
            ]
        )
        mean = looks.mean(axis=0)
        np.testing.assert_allclose(
            found.values[at], np.log(mean[columns]), rtol=0, atol=1e-4
        )
        agreement.append((looks.argmax(axis=1) == mean.argmax()).mean())
    assert found.agreement.tolist() == agreement
    # Bounds of what is left unread hold for the average.
    bounded = clf.set_params(tolerance=0.3).label_logprobs(TEXTS)
    assert (bounded.lower - 1e-4 <= found.values).all()
    assert (found.values <= bounded.upper + 1e-4).all()
    assert bounded.n_reads.sum() <= found.n_reads.sum()


def test_the_generated_answer_is_averaged_too():
    clf = ZeroShotClassifier(
        NAMES, prompt=PromptTemplate(answer="both", n_orders=2), strategy="generate"
    )
    found = clf.label_logprobs(TEXTS[:1])
    truth = clf.set_params(strategy="exact", tolerance=0.0).label_logprobs(TEXTS[:1])
    assert (found.lower - 1e-6 <= truth.values).all()
    assert (truth.values <= found.upper + 1e-6).all()


@pytest.mark.parametrize(("n_labels", "n_orders"), [(2, 2), (3, 6), (4, 24), (5, 10)])
def test_each_label_has_each_place_equally_often(n_labels, n_orders):
    found = orders(n_labels, n_orders)
    assert found[0] == tuple(range(n_labels))
    assert len(set(found)) == len(found) == n_orders
    for place in range(n_labels):
        counts = Counter(order[place] for order in found)
        assert counts == dict.fromkeys(range(n_labels), n_orders // n_labels)


def test_some_orders_are_spread_and_stay_the_same():
    found = orders(7, 3)
    assert found == orders(7, 3) == [tuple(np.roll(range(7), -s)) for s in (0, 2, 4)]
    assert len(set(orders(4, 9))) == 9


def test_codes_are_of_one_length():
    assert codes(26) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert {len(code) for code in codes(27)} == {2}
    assert len(set(codes(700))) == 700
    assert {len(code) for code in codes(700)} == {3}


def test_the_prompt_lists_and_solves_with_codes():
    labels = LabelSet.parse({"billing": "Invoices", "shipping": None})
    prompt = PromptTemplate(
        "{labels}\n{text} =>",
        chat=False,
        answer="code",
        examples=[("Post", "shipping")],
    )
    text = "".join(
        s.text for s in prompt.compile(byte_level(), labels).render({"text": "x"})
    )
    listed = "A. billing: Invoices\nB. shipping"
    assert text == f"{listed}\nPost => B\n\n{listed}\nx =>"
    inline = PromptTemplate(
        "{labels}: {text}", chat=False, answer="code", options="inline"
    )
    shown = inline.compile(byte_level(), labels).render({"text": "x"})
    assert "".join(s.text for s in shown) == "A. billing, B. shipping: x"


def test_the_audit_shows_codes():
    audit = ZeroShotClassifier(NAMES, prompt=PromptTemplate(answer="code")).audit()
    assert [(w.label, w.word) for w in audit.words] == list(
        zip(NAMES, "ABCD", strict=True)
    )
    both = ZeroShotClassifier(NAMES, prompt=PromptTemplate(answer="both")).audit()
    assert [w.word for w in both.words] == [*NAMES, *"ABCD"]


def test_more_labels_than_letters():
    names = [f"topic {a}{b}" for a, b in itertools.product("abcdef", "vwxyz")]
    clf = ZeroShotClassifier(names, prompt=PromptTemplate(answer="code"))
    assert [w.word for w in clf.audit().words] == codes(30)
    assert clf.predict_proba(["A text"]).shape == (1, 30)


NEEDS = " needs a list of the options, but "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"answer": "code", "options": "none"},
            f"answer='code'{NEEDS}options='none' lists none: remove one of the two.",
        ),
        (
            {"n_orders": 2, "options": "none"},
            f"n_orders=2{NEEDS}options='none' lists none: remove one of the two.",
        ),
        (
            {"answer": "both", "template": "{text}\nTopic:"},
            (
                f"answer='both'{NEEDS}the template '{{text}}\\nTopic:' has none: put "
                "{labels} where it belongs."
            ),
        ),
        (
            {"answer": "code", "options": "verbatim"},
            (
                "options='verbatim' lists the options as they are answered, without "
                "the codes of answer='code': use options='lines'."
            ),
        ),
    ],
)
def test_what_needs_a_list_of_options(settings, message):
    with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
        PromptTemplate(**settings)
    # The list may stand in the system prompt.
    PromptTemplate("{text}", system="One of {labels}", answer="code", n_orders=2)


def test_too_many_orders():
    clf = ZeroShotClassifier(["a", "b"], prompt=PromptTemplate(n_orders=3))
    message = "n_orders=3, but 2 labels have only 2 orders: use that number or fewer."
    with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
        clf.predict(["A text"])


def test_codes_take_the_place_of_several_words():
    labels = {"good": ["good", "great"], "bad": ["bad"]}
    clf = ZeroShotClassifier(labels, prompt=PromptTemplate(answer="code"))
    message = (
        "Label 'good' has several words, but with answer='code' only its code is read: "
        "give it one word, or use answer='text'."
    )
    with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
        clf.audit()


def test_a_calibration_is_of_one_form():
    digests = set()
    for settings in (
        {},
        {"answer": "code"},
        {"answer": "both"},
        {"n_orders": 2},
        {"n_orders": 3},
    ):
        clf = ZeroShotClassifier(NAMES, prompt=PromptTemplate(**settings))
        digests.add(clf.scorer().fingerprint()["prompt"])
    assert len(digests) == 5


def test_frames_and_jobs_tell_how_prompts_agree(tmp_path):
    clf = ZeroShotClassifier(NAMES, prompt=PromptTemplate(answer="both", n_orders=4))
    frame = pd.DataFrame({"text": TEXTS})
    told = clf.classify_frame(frame)
    assert told["agreement"].between(0, 1).all()
    frame.to_csv(tmp_path / "in.csv", index=False)
    table = open_table([str(tmp_path / "in.csv")])
    run_job(Classification(classifier=clf), table, tmp_path / "out.csv")
    written = pd.read_csv(tmp_path / "out.csv")
    assert written.columns.tolist() == [*told.columns, "error"]
    np.testing.assert_allclose(written["agreement"], told["agreement"])
    np.testing.assert_allclose(written["probability"], told["probability"], atol=1e-6)
    assert "agreement" not in ZeroShotClassifier(NAMES).classify_frame(frame)


def test_rows_with_candidates_of_their_own():
    prompt = PromptTemplate(answer="code", n_orders=2)
    clf = ZeroShotClassifier(NAMES, prompt=prompt)
    found = clf.label_logprobs(TEXTS[:2], labels=[NAMES[:2], NAMES[1:]])
    alone = ZeroShotClassifier(NAMES[:2], prompt=prompt).label_logprobs(TEXTS[:1])
    columns = [found.classes.tolist().index(name) for name in alone.classes]
    np.testing.assert_allclose(found.values[:1, columns], alone.values, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [({"answer": "code"}, "answer='code'"), ({"n_orders": 2}, "n_orders=2")],
)
def test_thinking_first_reads_the_words_of_one_prompt(settings, shown):
    clf = ZeroShotClassifier(
        NAMES, prompt=PromptTemplate(**settings), strategy="reason"
    )
    message = (
        f"{shown} cannot be combined with strategy='reason', which uses one prompt and "
        "reads the label's words: remove one of the two."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        clf.predict(["A text"])
