"""The label is read where a chat template has the answer written, or not at all."""

import re

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from classify import LabelSet, PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.errors import PromptError
from tests.chat_templates import (
    CHANGING,
    DATED,
    FORCED,
    REASONING_IN_WORDS,
    STYLES,
    SWITCHED_BY_SYSTEM,
    SWITCHED_BY_THE_LAST_WORD,
    SYSTEM_LAST,
    THOUGHTFUL,
    TRIMMING,
    WITHIN_A_BLOCK,
    WITHOUT_EXAMPLES,
    WITHOUT_SYSTEM,
    chat_tokenizer,
)

LABELS = LabelSet.parse(["billing", "shipping", "billing address"])
NO_EXAMPLES = ("answers in parts", "an answer that is written twice")
NO_SYSTEM = ("loses the last answer", "a space before answers", "thought left out")


def tokenizer_of(style):
    return chat_tokenizer(STYLES[style].template, STYLES[style].controls)


def asked(tokenizer, text="Q", template="{text}", **options):
    """Return the prompt of a text up to the label, as text."""
    prompt = PromptTemplate(template, chat=True, **options).compile(tokenizer, LABELS)
    shown = "".join(segment.text for segment in prompt.render({"text": text}))
    return shown + prompt.separator_before("billing")


def refused(message):
    return pytest.raises(PromptError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_ends_where_the_answer_begins(style):
    assert asked(tokenizer_of(style)) == STYLES[style].asked


@pytest.mark.parametrize("style", STYLES)
def test_examples_are_rendered_as_the_template_does(style):
    if style in NO_EXAMPLES:
        with refused(
            "The chat template of 'tiny' changes or drops the examples: leave them "
            "out, or use chat=False."
        ):
            asked(tokenizer_of(style), examples=[("E", "billing")])
        return
    shown = asked(tokenizer_of(style), examples=[("E", "billing")])
    assert shown == STYLES[style].shown


@pytest.mark.parametrize("style", STYLES)
def test_end_and_thinking_are_the_templates(style):
    prompt = PromptTemplate("{text}", chat=True).compile(tokenizer_of(style), LABELS)
    assert prompt.slot.end == STYLES[style].end
    assert prompt.slot.thinking == STYLES[style].thinking


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_prefix_stands_behind_the_lead(style):
    tokenizer, options = tokenizer_of(style), {"answer_prefix": "Topic:"}
    assert asked(tokenizer, **options) == STYLES[style].asked + "Topic: "
    if style in NO_EXAMPLES:
        return
    shown = asked(tokenizer, examples=[("E", "billing")], **options)
    assert shown == STYLES[style].shown.replace("billing", "Topic: billing") + "Topic: "


@pytest.mark.parametrize("style", [each for each in STYLES if each not in NO_SYSTEM])
def test_a_system_prompt_changes_nothing_behind_the_text(style):
    shown = asked(tokenizer_of(style), system="Be brief.")
    assert "Be brief." in shown.partition("Q")[0]
    assert shown.endswith(STYLES[style].asked[STYLES[style].asked.index("Q") :])


@pytest.mark.parametrize("style", STYLES)
def test_every_path_ends_as_the_template_ends_an_answer(style):
    tokenizer = tokenizer_of(style)
    prompt = PromptTemplate("{text}", chat=True).compile(tokenizer, LABELS)
    space = Verbalizer().compile(prompt, LABELS)
    [scorable] = space.encode([{"text": "Q"}], 10**6)
    whole = {
        tokenizer.decode([*scorable.token_ids, *path])
        for path in scorable.trie.tree.paths
    }
    assert whole == {
        STYLES[style].asked + name + STYLES[style].end for name in LABELS.names
    }


def model_of(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
        max_position_embeddings=256,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize(
    "style",
    ["forced, shown", "channels", "text before the end", "ended by a header"],
)
def test_probabilities_are_those_of_the_whole_text(style, tmp_path):
    """One float32 pass per label over prompt, label and end, written out as text."""
    tokenizer = tokenizer_of(style)
    model = model_of(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.backend.save_pretrained(tmp_path)
    clf = ZeroShotClassifier(
        LABELS, str(tmp_path), engine="transformers", prompt="{text}", tolerance=0.0
    )
    values = clf.label_logprobs(["Q"]).values[0]

    def encode(text):
        return tokenizer.backend(text, add_special_tokens=False)["input_ids"]

    before, end = STYLES[style].asked, STYLES[style].end
    start = len(encode(before))
    for name, value in zip(sorted(LABELS.names), values, strict=True):
        ids = encode(before + name + end)
        assert ids[:start] == encode(before)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        expected = sum(float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids)))
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4)


THOUGHT = (
    "The chat template of 'tiny' opens a thinking block with '<think>', and does not "
    "show how an answer follows it, so that a label would be read inside the thought. "
    "Close the block with answer_prefix='\\n</think>\\n\\n', turn thinking off with "
)


def test_a_block_that_the_template_never_closes_is_refused():
    with refused(
        THOUGHT + "a switch of the template's own (template_arguments), or use "
        "chat=False."
    ):
        asked(chat_tokenizer(FORCED))


@pytest.mark.parametrize("examples", [[], [("E", "billing")]])
def test_the_user_can_close_it(examples):
    closing = "\n</think>\n\n"
    start = asked(tokenizer_of("chatml"), examples=examples)
    options = {"examples": examples, "answer_prefix": closing}
    assert asked(chat_tokenizer(FORCED), **options) == start + "<think>\n" + closing
    options["answer_prefix"] = closing + "Topic:"
    expected = start.replace("billing", "Topic: billing")
    expected += "<think>\n" + closing + "Topic: "
    assert asked(chat_tokenizer(FORCED), **options) == expected


def test_an_answer_prefix_that_closes_nothing_is_refused():
    with pytest.raises(PromptError, match="inside the thought"):
        asked(chat_tokenizer(FORCED), answer_prefix="Topic:")


def test_a_switch_in_the_system_prompt_is_named_and_works():
    tokenizer = chat_tokenizer(SWITCHED_BY_SYSTEM)
    with refused(THOUGHT + "system='/no_think', or use chat=False."):
        asked(tokenizer)
    shown = asked(tokenizer, system="/no_think")
    assert shown.endswith("<|im_start|>assistant\n<think></think>")


def test_a_switch_at_the_end_of_the_text_is_named_and_works():
    tokenizer = chat_tokenizer(SWITCHED_BY_THE_LAST_WORD)
    with refused(
        f"{THOUGHT}'/direct_no_think' at the end of the prompt (template), or use "
        "chat=False."
    ):
        asked(tokenizer)
    shown = asked(tokenizer, template="{text} /direct_no_think")
    assert shown == STYLES["chatml"].asked.replace("Q", "Q /direct_no_think") + (
        "<think></think>"
    )


@pytest.mark.parametrize("template", CHANGING)
def test_a_template_that_changes_texts_is_refused(template):
    with refused(
        "The chat template of 'tiny' changes or drops parts of its messages, so that "
        "the text cannot be placed: use chat=False."
    ):
        asked(chat_tokenizer(template))


def test_reasoning_in_plain_words_is_refused():
    tokenizer = chat_tokenizer(REASONING_IN_WORDS)
    with refused(
        "The chat template of 'tiny' ends the prompt with 'Here is how I see it:', "
        "which never comes before an answer, so that a label would be read where the "
        "model writes something else. Give what leads to the answer as answer_prefix, "
        "turn thinking off with a switch of the template's own (template_arguments), "
        "or use chat=False."
    ):
        asked(tokenizer)
    shown = asked(tokenizer, answer_prefix="[FINAL]\n")
    assert shown.endswith("<|im_start|>assistant\nHere is how I see it:\n[FINAL]\n")


@pytest.mark.parametrize("where", ["template", "tokenizer"])
def test_a_block_of_an_unknown_name_that_answers_close_is_refused(where):
    template, controls = WITHIN_A_BLOCK, ["<|im_start|>", "<|im_end|>", "<ponder>"]
    if where == "template":
        template = "{% set end = '</ponder>' %}" + template
    else:
        controls.append("</ponder>")
    with refused(
        "The chat template of 'tiny' ends the prompt with '<ponder>', which never "
        "comes before an answer, so that a label would be read where the model writes "
        "something else. Give what leads to the answer as answer_prefix, turn thinking "
        "off with a switch of the template's own (template_arguments), or use "
        "chat=False."
    ):
        asked(chat_tokenizer(template, tuple(controls)))
    shown = asked(chat_tokenizer(template), answer_prefix="</ponder>\n")
    assert shown == STYLES["chatml"].asked + "<ponder>\n</ponder>\n"


def test_answers_that_need_a_thought_end_as_the_template_ends_them():
    prompt = PromptTemplate("{text}", chat=True).compile(
        chat_tokenizer(THOUGHTFUL), LABELS
    )
    assert prompt.slot.lead.endswith("assistant\n<think>\n\n</think>\n")
    assert prompt.slot.end == "<|im_end|>"


def test_a_system_prompt_behind_the_last_answer_is_no_end():
    prompt = PromptTemplate("{text}", chat=True, system="Be brief.").compile(
        chat_tokenizer(SYSTEM_LAST), LABELS
    )
    assert prompt.slot.lead.endswith("Be brief.<|im_end|>\n<|im_start|>assistant\n")
    assert prompt.slot.end == "<|im_end|>"


@pytest.mark.parametrize("is_on", [True, False])
def test_thinking_can_be_asked_for_and_is_closed_all_the_same(is_on):
    arguments = {"enable_thinking": is_on}
    style = STYLES["switched"].template.replace(
        "'<|im_start|>assistant\\n' + m.content",
        "'<|im_start|>assistant\\n' + ('<think>\\n' + m.reasoning_content + "
        "'\\n</think>\\n\\n' if m.reasoning_content else '') + m.content",
    )
    shown = asked(chat_tokenizer(style), template_arguments=arguments)
    assert shown == STYLES["switched"].asked


def test_arguments_that_are_given_are_not_overruled():
    with pytest.raises(PromptError, match="opens a thinking block with '<think>'"):
        asked(tokenizer_of("switched otherwise"), template_arguments={"thinking": True})


def test_other_arguments_reach_the_template():
    template = "{{ mood }}" + STYLES["chatml"].template
    shown = asked(chat_tokenizer(template), template_arguments={"mood": "kind"})
    assert shown == "kind" + STYLES["chatml"].asked


def test_a_dropped_system_prompt_is_refused():
    with refused(
        "The chat template of 'tiny' drops the system prompt: put its text into the "
        "prompt (template) instead, or use chat=False."
    ):
        asked(chat_tokenizer(WITHOUT_SYSTEM), system="Refunds are billing.")
    assert asked(chat_tokenizer(WITHOUT_SYSTEM)) == STYLES["chatml"].asked


def test_dropped_examples_are_refused():
    with refused(
        "The chat template of 'tiny' changes or drops the examples: leave them out, or "
        "use chat=False."
    ):
        asked(chat_tokenizer(WITHOUT_EXAMPLES), examples=[("E", "billing")])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("{% for tool in none %}{% endfor %}", "'NoneType' object is not iterable"),
        (
            "{{ functions | tojson }}",
            "Object of type Undefined is not JSON serializable",
        ),
        ("{{ 1 // 0 }}", "integer division or modulo by zero"),
        ("{{ messages[7].content }}", "list object has no element 7"),
    ],
)
def test_templates_that_fail_do_so_clearly(fault, error):
    tokenizer = chat_tokenizer(fault + STYLES["chatml"].template)
    with refused(
        f"The chat template of 'tiny' cannot render messages with the roles user: "
        f"{error}. Give it what it lacks with template_arguments, or use chat=False."
    ):
        asked(tokenizer)


@pytest.mark.parametrize(
    ("options", "roles", "advice"),
    [
        ({"system": "S"}, "system, user", "Leave out the system prompt"),
        (
            {"examples": [("E", "billing")]},
            "user, assistant, user",
            "Leave out the examples",
        ),
    ],
)
def test_advice_fits_what_was_refused(options, roles, advice):
    fault = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
    tokenizer = chat_tokenizer(fault + STYLES["chatml"].template)
    with refused(
        f"The chat template of 'tiny' cannot render messages with the roles {roles}: "
        f"one turn. {advice}, or use chat=False."
    ):
        asked(tokenizer, **options)


def test_the_date_is_todays_or_the_one_that_is_given():
    tokenizer = chat_tokenizer(DATED)
    arguments = {"strftime_now": "2026-03-01"}
    shown = asked(tokenizer, template_arguments=arguments)
    today = "<|im_start|>system\nToday: 01 Mar 2026<|im_end|>\n"
    assert shown == today + STYLES["chatml"].asked
    recipe = PromptTemplate(template_arguments=arguments)
    assert recipe.compile(tokenizer, LABELS).date == "2026-03-01"
    assert PromptTemplate().compile(tokenizer, LABELS).date is not None
    assert PromptTemplate().compile(tokenizer_of("chatml"), LABELS).date is None


@pytest.mark.parametrize("form", ["%A", "%d", "%B", "%Y"])
@pytest.mark.parametrize("day", ["1999-12-31", "2026-11-27"])
def test_any_part_of_a_date_is_a_date(form, day):
    tokenizer = chat_tokenizer(DATED.replace("%d %b %Y", form))
    recipe = PromptTemplate(template_arguments={"strftime_now": day})
    assert recipe.compile(tokenizer, LABELS).date == day


@pytest.mark.parametrize(
    ("template", "expected"),
    [("{text}", "x"), ("{text}?", "x \n?"), ("\n{text}", "x"), ("> {text}", ">  x")],
)
def test_white_space_is_cut_off_a_text_where_the_template_would(template, expected):
    shown = asked(chat_tokenizer(TRIMMING), " x \n", template)
    assert shown == STYLES["chatml"].asked.replace("Q", expected)
    kept = asked(tokenizer_of("chatml"), " x \n", template)
    assert kept == STYLES["chatml"].asked.replace("Q", template.format(text=" x \n"))


@pytest.mark.parametrize(
    ("prefix", "answered"),
    [("Topic: ", "Topic: billing"), ("Topic:\n", "Topic:\nbilling")],
)
def test_a_prefix_that_ends_in_white_space_is_the_same_in_examples(prefix, answered):
    tokenizer = tokenizer_of("chatml")
    shown = asked(tokenizer, answer_prefix=prefix, examples=[("E", "billing")])
    expected = STYLES["chatml"].shown.replace("billing", answered) + prefix
    assert shown == expected


@pytest.mark.parametrize(
    "arguments",
    [["thinking"], {1: True}, {"a": object()}, {"messages": []},
     {"strftime_now": "today"}],
)  # fmt: skip
def test_arguments_are_checked(arguments):
    message = (
        "The 'template_arguments' parameter of PromptTemplate must be a mapping of "
        "names to values of types that JSON has, strftime_now an ISO date, or None. "
        "Got "
    )
    with pytest.raises(PromptError, match=f"^{re.escape(message)}"):
        PromptTemplate(template_arguments=arguments)
