"""Thinking first: prompts, thoughts and probabilities against slow references.

The reference generates greedily, one uncached float32 pass a token, and then takes one
pass for each label over the whole text. It knows the templates only from what is
written out here.
"""

import re

import numpy as np
import pytest
import torch

from classify import LabelSet, PromptTemplate, ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.errors import ConfigError, PromptError, PromptTooLongError
from classify.prompts.closing import ThoughtEnd
from classify.tracking import TrackedGeneration
from tests.chat_templates import (
    CHANNELS_WITH_ANALYSIS,
    FORCED,
    REASONING_IN_WORDS,
    STYLES,
    SWITCHED_BY_SYSTEM,
    chat_tokenizer,
)
from tests.test_answer_slot import model_of
from tests.toy_model import hashed_engine

LABELS = LabelSet.parse(["billing", "shipping", "billing address"])
ASK = (
    "\n\nThink step by step. Then finish with a line that begins with 'Answer:', "
    "followed by the answer only."
)
CHANNELS = "<|start|>user<|message|>Q<|end|><|start|>assistant"
IM = "<|im_start|>user\nQ{}<|im_end|>\n<|im_start|>assistant\n"
TEMPLATES = {name: (style.template, style.controls) for name, style in STYLES.items()}
TEMPLATES |= {
    "analysis": (CHANNELS_WITH_ANALYSIS, STYLES["channels"].controls),
    "forced, not shown": (FORCED, STYLES["chatml"].controls),
    "switched by the system prompt": (SWITCHED_BY_SYSTEM, STYLES["chatml"].controls),
}


# What the prompt of `Q` is, what closes the thought, and what the model ends it with.
THOUGHTS = {
    "switched": (IM.format("") + "<think>\n", "\n</think>\n\n", "</think>"),
    "switched otherwise": (IM.format("") + "<think>", "</think><answer>", "</think>"),
    "forced, shown": (IM.format("") + "<think>\n", "\n</think>\n\n", "</think>"),
    "forced, not shown": (IM.format("") + "<think>\n", "\n</think>\n\n", "</think>"),
    "switched by the system prompt": (
        IM.format("") + "<think>\n",
        "\n</think>\n\n",
        "</think>",
    ),
    "empty block": (
        "<|im_user|>Q<|im_end|><|im_assistant|><think>",
        "</think>",
        "</think>",
    ),
    "response mark": (
        "<|USER|>Q<|END|><|BOT|><|START_THINKING|>",
        "<|END_THINKING|><|START_RESPONSE|>",
        "<|END_THINKING|>",
    ),
    "named channel": (
        "<|turn>user\nQ<turn|>\n<|turn>model\n<|channel>thought\n",
        "<channel|>",
        "<channel|>",
    ),
    "thought left out": ("[INST]Q[/INST][THINK]", "[/THINK]", "[/THINK]"),
    "analysis": (
        f"{CHANNELS}<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|end|>",
    ),
}
IN_WORDS = {
    "chatml": IM.format(ASK),
    "channels": f"<|start|>user<|message|>Q{ASK}<|end|><|start|>assistant"
    "<|channel|>final<|message|>",
    "a space before answers": f"[INST] Q{ASK} [/INST]",
    "ended by a header": f"<|user|>\nQ{ASK}<|assistant|>\n",
}


def asked(tokenizer, **options):
    """Return a compiled prompt that ends where the thought begins, and its text."""
    recipe = PromptTemplate("{text}", **{"chat": True} | options)
    prompt = recipe.compile(tokenizer, LABELS, reasons=True)
    return prompt, "".join(segment.text for segment in prompt.render({"text": "Q"}))


@pytest.mark.parametrize("style", THOUGHTS)
def test_the_prompt_ends_where_the_model_begins_to_think(style):
    prompt, text = asked(chat_tokenizer(*TEMPLATES[style]))
    assert prompt.thought.is_native
    assert (text, prompt.thought.closing, prompt.thought.end) == THOUGHTS[style]


@pytest.mark.parametrize("style", IN_WORDS)
def test_models_that_do_not_think_are_asked_to(style):
    prompt, text = asked(chat_tokenizer(*TEMPLATES[style]))
    assert text == IN_WORDS[style]
    assert (prompt.thought.closing, prompt.thought.end) == ("\nAnswer:", "Answer:")
    shown = asked(chat_tokenizer(*TEMPLATES[style]), examples=[("E", "billing")])[1]
    assert "Answer: billing" in shown


def test_an_answer_prefix_comes_behind_the_thought():
    switched = chat_tokenizer(*TEMPLATES["switched"])
    prompt, text = asked(switched, answer_prefix="Topic:")
    assert text == THOUGHTS["switched"][0]
    assert prompt.thought.closing == "\n</think>\n\nTopic:"
    prompt, text = asked(chat_tokenizer(*TEMPLATES["chatml"]), answer_prefix="Topic:")
    assert "a line that begins with 'Topic:'" in text
    assert prompt.thought.closing == "\nTopic:"


def test_an_answer_prefix_can_say_how_a_thought_is_closed():
    odd = FORCED.replace("<think>", "<|channel>thought").replace("</think>", "<end>")
    tokenizer = chat_tokenizer(
        odd, ("<|im_start|>", "<|im_end|>", "<|channel>", "<end>")
    )
    message = (
        "The chat template of 'tiny' opens a thinking block with '<|channel>thought', "
        "and does not show how an answer follows it, so that a label would be read "
        "inside the thought. Give what ends the block as answer_prefix, turn thinking "
        "off with a switch of the template's own (template_arguments), or use "
        "chat=False."
    )
    with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
        asked(tokenizer)
    prompt, _ = asked(tokenizer, answer_prefix="\n<end>\nTopic:")
    assert (prompt.thought.closing, prompt.thought.end) == ("\n<end>\nTopic:", "<end>")


def test_a_prompt_that_leads_elsewhere_is_refused():
    with pytest.raises(
        PromptError, match="ends the prompt with 'Here is how I see it:'"
    ):
        asked(chat_tokenizer(REASONING_IN_WORDS))


def test_thinking_that_is_turned_off_is_asked_for_in_words():
    off = {"enable_thinking": False}
    prompt, text = asked(chat_tokenizer(*TEMPLATES["switched"]), template_arguments=off)
    assert text == IM.format(ASK) + "<think>\n\n</think>\n\n"
    assert not prompt.thought.is_native


def test_plain_prompts():
    tokenizer = chat_tokenizer(*TEMPLATES["chatml"])
    _, text = asked(tokenizer, chat=False, examples=[("E", "billing")])
    assert text == f"E\nAnswer: billing\n\nQ{ASK}\n\nReasoning:"
    recipe = PromptTemplate(chat=False)
    prompt = recipe.compile(tokenizer, LABELS, reasons=True)
    listed = "billing, shipping, billing address"
    assert (
        "".join(segment.text for segment in prompt.render({"text": "Q"}))
        == f"Categories: {listed}\n\nText: Q{ASK}\n\nReasoning:"
    )


# -------------------------------------------------------------------------- exactness

TEXTS = [f"Text {n}" for n in range(12)]


class Reference:
    """A model with a template, asked slowly."""

    def __init__(self, style, folder):
        self.tokenizer = chat_tokenizer(*TEMPLATES[style])
        self.model = model_of(self.tokenizer)
        self.prompt, self.closing, self.end = THOUGHTS.get(
            style, (IN_WORDS.get(style), "\nAnswer:", None)
        )
        if self.end is not None:
            # A network of random weights would hardly ever end a thought.
            with torch.no_grad():
                self.model.lm_head.weight[self.encode(self.end)[0]] *= 2.5
        self.model.save_pretrained(folder)
        self.tokenizer.backend.save_pretrained(folder)
        self.folder = str(folder)

    def encode(self, text):
        return self.tokenizer.backend(text, add_special_tokens=False)["input_ids"]

    def logprobs(self, ids):
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits
        return torch.log_softmax(logits[0].double(), dim=-1).numpy()

    def think(self, text, budget, stops):
        """Return the greedily generated tokens and whether they end by themselves."""
        ids = self.encode(self.prompt.replace("Q", text))
        thought = []
        while len(thought) < budget:
            thought.append(int(self.logprobs([*ids, *thought])[-1].argmax()))
            if thought[-1] in stops:
                return thought, True
        return thought, False

    def label_logprobs(self, behind, before, end):
        """Return log p of each label, one pass each; `before` are the last words."""
        values = []
        for name in sorted(LABELS.names):
            joint = self.encode(before + name + end)
            start = len(behind)
            ids = [*behind, *joint]
            given = self.logprobs(ids)
            values.append(sum(given[at - 1, ids[at]] for at in range(start, len(ids))))
        return np.array(values)


def classifier(reference, **options):
    return ZeroShotClassifier(
        LABELS,
        reference.folder,
        engine="transformers",
        prompt="{text}",
        strategy="reason",
        tolerance=0.0,
        **options,
    )


@pytest.mark.parametrize(
    ("style", "end"),
    [
        ("forced, shown", "<|im_end|>"),
        ("switched", "<|im_end|>"),
        ("forced, not shown", "<|im_end|>"),
        ("analysis", "<|return|>"),
        ("response mark", "<|END_RESPONSE|><|END|>"),
    ],
)
def test_probabilities_are_those_behind_a_greedy_thought(style, end, tmp_path):
    reference = Reference(style, tmp_path)
    budget = 3 if style == "analysis" else 12
    scores = classifier(reference, max_reasoning_tokens=budget).label_logprobs(TEXTS)
    [mark] = reference.encode(reference.end)
    turn = reference.encode(end)
    stops = {mark, reference.tokenizer.eos_id, *turn}
    outcomes = []
    for text, values, reasoning in zip(
        TEXTS, scores.values, scores.reasoning, strict=True
    ):
        thought, ended = reference.think(text, budget, stops)
        [chain] = reasoning.chains
        is_closed = thought[-1] == mark
        if ended and not is_closed:
            thought.pop()
        closing = reference.closing
        if is_closed:
            closing = closing.partition(reference.end)[2]
        assert list(chain.token_ids) == thought
        assert chain.cut is not ended
        assert list(chain.closing_token_ids) == reference.encode(closing)
        behind = [*reference.encode(reference.prompt.replace("Q", text)), *thought]
        behind += reference.encode(closing)
        expected = reference.label_logprobs(behind, "", end)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
        outcomes.append((chain.cut, is_closed))
    assert {(True, False), (False, True)} <= set(outcomes)
    assert not scores.unresolved.any()


@pytest.mark.parametrize("style", ["chatml", "channels"])
def test_probabilities_behind_an_answer_line(style, tmp_path):
    reference = Reference(style, tmp_path)
    end = STYLES[style].end
    scores = classifier(reference, max_reasoning_tokens=8).label_logprobs(TEXTS[:4])
    stops = {reference.tokenizer.eos_id, *reference.encode(end)}
    for text, values, reasoning in zip(
        TEXTS, scores.values, scores.reasoning, strict=False
    ):
        thought, ended = reference.think(text, 8, stops)
        [chain] = reasoning.chains
        assert list(chain.token_ids) == thought[: len(thought) - ended]
        behind = reference.encode(reference.prompt.replace("Q", text))
        behind += [*chain.token_ids, *reference.encode("\nAnswer:")]
        expected = reference.label_logprobs(behind, " ", end)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)


def test_chains_are_averaged_in_probability(tmp_path):
    reference = Reference("forced, shown", tmp_path)
    options = {"max_reasoning_tokens": 10, "n_chains": 4, "chain_temperature": 1.0}
    clf = classifier(reference, **options)
    scores = clf.label_logprobs(TEXTS[:3], return_steps=True)
    again = clf.label_logprobs(TEXTS[2:3])
    np.testing.assert_allclose(again.values[0], scores.values[2], rtol=0, atol=1e-5)
    for text, values, reasoning in zip(
        TEXTS, scores.values, scores.reasoning, strict=False
    ):
        assert len({chain.token_ids for chain in reasoning.chains}) > 1
        prompt = reference.encode(reference.prompt.replace("Q", text))
        each = []
        for chain in reasoning.chains:
            behind = [*prompt, *chain.token_ids, *chain.closing_token_ids]
            each.append(reference.label_logprobs(behind, "", "<|im_end|>"))
            np.testing.assert_allclose(chain.logprobs, each[-1], rtol=0, atol=1e-4)
            _check_trajectory(reference, prompt, chain)
        p = np.exp(each)
        np.testing.assert_allclose(np.exp(values), p.mean(axis=0), rtol=1e-4)
        mass = p.sum(axis=1)
        q = p.mean(axis=0) / mass.mean()
        rest = p - q * mass[:, None]
        error = np.sqrt((rest**2).sum(axis=0) / (4 * 3)) / mass.mean()
        np.testing.assert_allclose(reasoning.standard_error, error, rtol=1e-3)
        agree = (p.argmax(axis=1) == q.argmax()).mean()
        assert reasoning.agreement == agree
        assert reasoning.cut is any(chain.cut for chain in reasoning.chains)
    other = classifier(reference, **options, chain_seed=1).label_logprobs(TEXTS[:1])
    assert other.reasoning[0].text != scores.reasoning[0].text


def _check_trajectory(reference, prompt, chain):
    trajectory, tokenizer = chain.trajectory, reference.tokenizer
    given = reference.logprobs([*prompt, *chain.token_ids])
    assert trajectory.logprobs.shape == (chain.n_tokens, len(trajectory.tracked))
    assert trajectory.tokens == tokenizer.pieces(chain.token_ids)
    paths = [reference.encode(name + "<|im_end|>") for name in LABELS.names]
    tracked = sorted({token for path in paths for token in path})
    assert trajectory.tracked == tokenizer.pieces(tracked)
    assert trajectory.labels == tuple(
        tuple(
            name
            for name, path in zip(LABELS.names, paths, strict=True)
            if token in path
        )
        for token in tracked
    )
    assert len({path[0] for path in paths}) > 1
    first = {path[0] for path in paths}
    assert trajectory.is_first == tuple(token in first for token in tracked)
    expected = given[len(prompt) - 1 : len(prompt) - 1 + chain.n_tokens][:, tracked]
    np.testing.assert_allclose(trajectory.logprobs, expected, rtol=0, atol=1e-4)
    frame = trajectory.to_frame()
    assert list(frame.columns) == ["token", *trajectory.tracked]


def test_bounds_hold_at_a_coarse_tolerance():
    tokenizer = chat_tokenizer(*TEMPLATES["forced, shown"])
    clf = ZeroShotClassifier(
        ["a", "o", "u", "y", "billing"],
        engine=hashed_engine(len(tokenizer)),
        tokenizer=tokenizer,
        strategy="reason",
        tolerance=0.0,
        max_reasoning_tokens=6,
        n_chains=3,
    )
    exact = clf.label_logprobs(TEXTS[:3])
    coarse = clf.set_params(tolerance=0.9).label_logprobs(TEXTS[:3])
    assert (coarse.n_reads < exact.n_reads).all()
    assert (coarse.lower <= exact.values).all()
    assert (exact.values <= coarse.upper).all()
    assert (coarse.unresolved > 0).all()
    assert [each.text for each in coarse.reasoning] == [
        each.text for each in exact.reasoning
    ]


# ------------------------------------------------------------------- ends of thoughts


def thought_end(style, controls=None):
    template, own = TEMPLATES[style]
    tokenizer = chat_tokenizer(template, own if controls is None else controls)
    return ThoughtEnd.of(asked(tokenizer)[0], n_given_up=0)


def generated(end, text, finish_reason="stop", last=()):
    ids = end.prompt.tokenizer.encode_text(text)
    return TrackedGeneration((*ids, *last), None, finish_reason=finish_reason)


def test_an_end_in_text_is_found_at_a_token_boundary():
    """Here the tags are no control tokens, but spelled out."""
    end = thought_end("forced, not shown", ("<|im_start|>", "<|im_end|>"))
    tokenizer = end.prompt.tokenizer
    assert end.token is None
    closed = end.close(generated(end, "A bill.\n</think>\n\nbilling"))
    assert tokenizer.decode(closed.token_ids) == "A bill.\n"
    assert tokenizer.decode(closed.closing_token_ids) == "\n</think>\n\n"
    assert (closed.text, closed.cut) == ("A bill.", False)


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("A bill.\nAnswer: billing", "A bill."),
        ("A bill.\n\n**Answer:** billing", "A bill."),
        ("## Answer: billing", ""),
        ("It has no such line", "It has no such line"),
        ("The line with Answer: comes", "The line with Answer: comes"),
    ],
)
def test_a_line_for_the_answer_ends_a_thought(text, thought):
    end = thought_end("chatml")
    tokenizer = end.prompt.tokenizer
    for reason in ("stop", "length"):
        closed = end.close(generated(end, text, reason))
        assert closed.text == thought
        assert closed.cut == (reason == "length" and thought == text)
        assert tokenizer.decode(closed.closing_token_ids) == "\nAnswer:"


def test_a_model_that_ends_its_turn_in_its_thought_is_led_to_the_answer():
    end = thought_end("switched")
    turn = end.prompt.tokenizer.backend.convert_tokens_to_ids("<|im_end|>")
    assert turn in end.stop_token_ids
    closed = end.close(generated(end, "A bill.", last=[turn]))
    assert closed.token_ids == end.prompt.tokenizer.encode_text("A bill.")
    assert closed.closing_token_ids == end.closing
    assert not closed.cut


# ------------------------------------------------------------- settings and contexts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_chains": 3},
            "n_chains is for strategy='reason': give that, or drop n_chains.",
        ),
        (
            {"strategy": "generate", "max_reasoning_tokens": 9},
            (
                "max_reasoning_tokens is for strategy='reason': give that, or drop "
                "max_reasoning_tokens."
            ),
        ),
        (
            {"strategy": "reason", "chain_seed": 4},
            "chain_seed is for n_chains above 1: give that, or drop chain_seed.",
        ),
        (
            {"strategy": "reason", "n_chains": 0},
            (
                "The 'n_chains' parameter of ZeroShotClassifier must be a whole "
                "number, at least 1. Got 0 instead."
            ),
        ),
    ],
)
def test_settings_that_do_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ZeroShotClassifier(LABELS, **options).scorer()


def test_a_thought_has_what_the_context_leaves(tmp_path):
    """The model takes 256 tokens: a quarter is kept, and the text is cut for it."""
    reference = Reference("forced, shown", tmp_path)
    clf = classifier(reference, max_reasoning_tokens=512)
    scorer = clf.scorer()
    rows = [{"text": "Q"}, {"text": "Q " * 60}, {"text": "Q " * 400}]
    prompts = scorer.encode(rows, None)
    behind = len(reference.encode("\n</think>\n\n")) + prompts[0].trie.tree.max_depth
    for prompt in prompts:
        left = 256 - behind - len(prompt.token_ids)
        assert prompt.max_thought_tokens == left >= 64
    assert [prompt.truncated for prompt in prompts] == [False, False, True]
    scores = clf.label_logprobs([row["text"] for row in rows])
    assert scores.truncated.tolist() == [False, False, True]
    assert np.isfinite(scores.values).all()
    strict = classifier(reference, max_reasoning_tokens=512)
    strict.set_params(prompt=PromptTemplate("{text}", too_long="error"))
    says = (
        r"^Text 2: A prompt needs \d+ tokens, but the model takes \d+: shorten the "
        r"text, or allow it to be cut \(too_long: truncate\)\. Of the model's 256 "
        r"tokens, 64 are kept for its thought \(max_reasoning_tokens\) and \d+ for the "
        r"answer\.$"
    )
    with pytest.raises(PromptTooLongError, match=says):
        strict.label_logprobs([row["text"] for row in rows])


def test_a_calibration_is_of_one_way_to_think():
    clf = ZeroShotClassifier(["billing", "shipping"], engine="transformers")
    shifts = clf.set_params(strategy="reason", max_reasoning_tokens=4).scorer()
    prints = [shifts.fingerprint()]
    changes = (
        {"n_chains": 2},
        {"chain_seed": 3},
        {"max_reasoning_tokens": 5},
        {
            "n_chains": 1,
            "chain_seed": 0,
            "strategy": "exact",
            "max_reasoning_tokens": 512,
        },
    )
    prints += [clf.set_params(**each).scorer().fingerprint() for each in changes]
    assert len({tuple(each.items()) for each in prints}) == len(prints)
    assert "reasoning" not in prints[-1]
    scores = clf.label_logprobs(["My parcel is late.", "The invoice is wrong."])
    fitted = LabelCalibrator("batch").fit(scores)
    fitted.fingerprint_ = clf.scorer().fingerprint()
    clf.set_params(strategy="reason", calibrator=fitted)
    with pytest.raises(ConfigError, match="strategy: fitted with exact, now reason"):
        clf.predict(["My parcel is late."])


def test_the_audit_shows_where_the_answer_is_read():
    audit = ZeroShotClassifier(["billing", "shipping"], strategy="reason").audit()
    assert audit.thought.closing_pieces == ("\n", "Answer", ":")
    assert audit.thought.max_tokens == 512
    assert audit.prompt_pieces[-1] == "\n"
    assert "Thought ends" in audit._repr_html_()
