"""Chat templates in the styles of today's models, and a tokenizer that brings one.

They are written for these tests. Each does what one family of templates does to the
place of an answer, and nothing else.
"""

import functools
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from classify.tokenizer import Tokenizer as TextTokenizer
from tests.tiny_tokenizers import CORPUS


class Style(NamedTuple):
    """A template, and what it makes of a user's text ``Q`` and an answer.

    ``asked`` is the prompt of `Q` up to the label, ``end`` what follows a label, and
    ``shown`` the prompt of `Q` behind an example `E` whose label is `billing`.
    """

    template: str
    controls: tuple[str, ...]
    asked: str
    end: str
    thinking: str
    shown: str


def _turns(user: str, assistant: str, generation: str, system: str = "") -> str:
    """Write a template: a Jinja expression for each kind of turn."""
    system = system or user.replace("user", "system").replace("USER", "SYSTEM")
    return (
        "{% for m in messages %}"
        "{% if m.role == 'system' %}{{ " + system + " }}"
        "{% elif m.role == 'user' %}{{ " + user + " }}"
        "{% else %}{{ " + assistant + " }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + generation + "{% endif %}"
    )


_CHATML = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
_IM_USER = r"'<|im_start|>user\n' + m.content + '<|im_end|>\n'"
_IM_ANSWER = r"'<|im_start|>assistant\n' + m.content + '<|im_end|>\n'"
_IM_Q = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
_IM_E = (
    "<|im_start|>user\nE<|im_end|>\n<|im_start|>assistant\nbilling<|im_end|>\n" + _IM_Q
)


def _chatml(
    template: str, block: str = "", controls: tuple[str, ...] = _CHATML
) -> Style:
    """Return a style with the turns of ChatML, and this behind the prompt."""
    return Style(
        template,
        controls,
        asked=_IM_Q + block,
        end="<|im_end|>",
        thinking="closed" if block else "none",
        shown=_IM_E + block,
    )


STYLES = {
    "chatml": _chatml(_turns(_IM_USER, _IM_ANSWER, r"{{ '<|im_start|>assistant\n' }}")),
    # Thinks unless told not to; the block is then written closed.
    "switched": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n<think>\n' }}"
            r"{% if enable_thinking is false %}{{ '\n</think>\n\n' }}{% endif %}",
        ),
        "<think>\n\n</think>\n\n",
    ),
    # Another name of the switch, and the answer has a tag of its own.
    "switched otherwise": Style(
        _turns(
            _IM_USER,
            r"'<|im_start|>assistant\n<answer>' + m.content + '</answer><|im_end|>\n'",
            r"{{ '<|im_start|>assistant\n' }}{{ '<answer>' if thinking is false "
            "else '<think>' }}",
        ),
        (*_CHATML, "<answer>", "</answer>"),
        asked=_IM_Q + "<answer>",
        end="</answer><|im_end|>",
        thinking="skipped",
        shown="<|im_start|>user\nE<|im_end|>\n<|im_start|>assistant\n"
        "<answer>billing</answer><|im_end|>\n" + _IM_Q + "<answer>",
    ),
    # Always opens a block, and shows how it is closed behind a thought.
    "forced, shown": _chatml(
        _turns(
            _IM_USER,
            r"'<|im_start|>assistant\n' + (('<think>\n' + m.reasoning_content + "
            r"'\n</think>\n\n') if m.reasoning_content else '') + m.content + "
            r"'<|im_end|>\n'",
            r"{{ '<|im_start|>assistant\n<think>\n' }}",
        ),
        "<think>\n\n</think>\n\n",
    ),
    "channels": Style(
        _turns(
            "'<|start|>user<|message|>' + m.content + '<|end|>'",
            "'<|start|>assistant<|channel|>final<|message|>' + m.content + "
            "('<|return|>' if loop.last else '<|end|>')",
            "<|start|>assistant",
        ),
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
        asked="<|start|>user<|message|>Q<|end|><|start|>assistant"
        "<|channel|>final<|message|>",
        end="<|return|>",
        thinking="none",
        shown="<|start|>user<|message|>E<|end|><|start|>assistant<|channel|>final"
        "<|message|>billing<|end|><|start|>user<|message|>Q<|end|><|start|>assistant"
        "<|channel|>final<|message|>",
    ),
    # An empty block stands before every answer, and not in the generation prompt.
    "empty block": Style(
        _turns(
            "'<|im_user|>' + m.content + '<|im_end|>'",
            "'<|im_assistant|><think></think>' + m.content + '<|im_end|>'",
            "<|im_assistant|>",
        ),
        ("<|im_user|>", "<|im_assistant|>", "<|im_end|>", "<think>", "</think>"),
        asked="<|im_user|>Q<|im_end|><|im_assistant|><think></think>",
        end="<|im_end|>",
        thinking="closed",
        shown="<|im_user|>E<|im_end|><|im_assistant|><think></think>billing<|im_end|>"
        "<|im_user|>Q<|im_end|><|im_assistant|><think></think>",
    ),
    # The block is closed by a switch, and the answer's own mark is still missing.
    "response mark": Style(
        _turns(
            "'<|USER|>' + m.content + '<|END|>'",
            "'<|BOT|>' + ('<|START_THINKING|>' + m.thinking + '<|END_THINKING|>' if "
            "m.thinking else '') + '<|START_RESPONSE|>' + m.content + "
            "'<|END_RESPONSE|><|END|>'",
            "<|BOT|><|START_THINKING|>{{ '<|END_THINKING|>' if reasoning is false }}",
        ),
        (
            "<|USER|>",
            "<|BOT|>",
            "<|END|>",
            "<|START_THINKING|>",
            "<|END_THINKING|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
        ),
        asked="<|USER|>Q<|END|><|BOT|><|START_THINKING|><|END_THINKING|>"
        "<|START_RESPONSE|>",
        end="<|END_RESPONSE|><|END|>",
        thinking="closed",
        shown="<|USER|>E<|END|><|BOT|><|START_RESPONSE|>billing<|END_RESPONSE|><|END|>"
        "<|USER|>Q<|END|><|BOT|><|START_THINKING|><|END_THINKING|><|START_RESPONSE|>",
    ),
    # The recipient comes first: what is for everybody, in words.
    "recipient": Style(
        _turns(
            r"'<|head|>user\n' + m.content + '<|eot|>'",
            r"'<|head|>assistant\n>>>all\n' + m.content + '<|eot|>'",
            r"{{ '<|head|>assistant\n>>>' }}",
        ),
        ("<|head|>", "<|eot|>"),
        asked="<|head|>user\nQ<|eot|><|head|>assistant\n>>>all\n",
        end="<|eot|>",
        thinking="none",
        shown="<|head|>user\nE<|eot|><|head|>assistant\n>>>all\nbilling<|eot|>"
        "<|head|>user\nQ<|eot|><|head|>assistant\n>>>all\n",
    ),
    # Nothing ends an answer but the next turn's header.
    "ended by a header": Style(
        _turns(
            r"'<|user|>\n' + m.content",
            r"'<|assistant|>\n' + m.content",
            "<|assistant|>",
        ),
        ("<|user|>", "<|assistant|>", "<|system|>"),
        asked="<|user|>\nQ<|assistant|>\n",
        end="<|user|>",
        thinking="none",
        shown="<|user|>\nE<|assistant|>\nbilling<|user|>\nQ<|assistant|>\n",
    ),
    # Text stands between an answer and the token that ends it.
    "text before the end": Style(
        _turns(
            r"'<SPECIAL_11>User\n' + m.content + '\n'",
            r"'<SPECIAL_11>Assistant\n' + m.content + '\n<SPECIAL_12>\n'",
            r"{{ '<SPECIAL_11>Assistant\n' }}",
        ),
        ("<SPECIAL_11>", "<SPECIAL_12>"),
        asked="<SPECIAL_11>User\nQ\n<SPECIAL_11>Assistant\n",
        end="\n<SPECIAL_12>",
        thinking="none",
        shown="<SPECIAL_11>User\nE\n<SPECIAL_11>Assistant\nbilling\n<SPECIAL_12>\n"
        "<SPECIAL_11>User\nQ\n<SPECIAL_11>Assistant\n",
    ),
    # A token behind the last answer ends the conversation, not the answer.
    "closed conversation": Style(
        _turns(
            r"'<|user|>\n' + m.content + '<|end|>\n'",
            r"'<|assistant|>\n' + m.content + '<|end|>\n'",
            r"{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}",
        ),
        ("<|user|>", "<|assistant|>", "<|end|>"),
        asked="<|user|>\nQ<|end|>\n<|assistant|>\n",
        end="<|end|>",
        thinking="none",
        shown="<|user|>\nE<|end|>\n<|assistant|>\nbilling<|end|>\n<|user|>\nQ<|end|>\n"
        "<|assistant|>\n",
    ),
    "a space before answers": Style(
        _turns(
            "'[INST] ' + m.content + ' [/INST]'",
            "' ' + m.content + eos_token",
            "",
            system="'[SYS]' + m.content",
        ),
        ("[INST]", "[/INST]", "[SYS]"),
        asked="[INST] Q [/INST] ",
        end="<eos>",
        thinking="none",
        shown="[INST] E [/INST] billing<eos>[INST] Q [/INST] ",
    ),
    # The header of the answer is missing from the generation prompt.
    "no generation prompt": _chatml(_turns(_IM_USER, _IM_ANSWER, "")),
    # The generation prompt is written whatever is asked, behind an answer too.
    "always a generation prompt": _chatml(
        _turns(_IM_USER, _IM_ANSWER, "").removesuffix("{% endif %}")
        + r"{% endif %}{{ '<|im_start|>assistant\n' }}"
    ),
    # Only a history holds the answer: the last one is lost.
    "loses the last answer": Style(
        "{% for m in messages %}{% if m.role != 'assistant' %}{{ '<|user|>' + "
        "m.content + '<|end|>' }}{% elif not loop.last %}{{ '<|assistant|>' + "
        "m.content + '<|end|>' }}{% endif %}{% endfor %}<|assistant|>",
        ("<|user|>", "<|assistant|>", "<|end|>"),
        asked="<|user|>Q<|end|><|assistant|>",
        end="<|end|>",
        thinking="none",
        shown="<|user|>E<|end|><|assistant|>billing<|end|><|user|>Q<|end|><|assistant|>",
    ),
    # Contents are lists of parts; a string is lost.
    "lists of parts": Style(
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% for part in m.content %}"
        "{{ part.text }}{% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        asked="<|user|>Q<|end|><|assistant|>",
        end="<|end|>",
        thinking="none",
        shown="<|user|>E<|end|><|assistant|>billing<|end|><|user|>Q<|end|><|assistant|>",
    ),
    # A template that refuses one of our switches is asked without it.
    "refuses the switch": _chatml(
        "{% if enable_thinking is defined %}{{ raise_exception('no switch') }}"
        "{% endif %}" + _turns(_IM_USER, _IM_ANSWER, r"{{ '<|im_start|>assistant\n' }}")
    ),
    # A block with a name behind a tag of its own.
    "named channel": Style(
        _turns(
            r"'<|turn>user\n' + m.content + '<turn|>\n'",
            r"'<|turn>model\n' + m.content + '<turn|>\n'",
            r"{{ '<|turn>model\n' }}{% if enable_thinking is false %}"
            r"{{ '<|channel>thought\n<channel|>' }}{% endif %}",
        ),
        ("<|turn>", "<turn|>", "<|channel>", "<channel|>"),
        asked="<|turn>user\nQ<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        end="<turn|>",
        thinking="closed",
        shown="<|turn>user\nE<turn|>\n<|turn>model\nbilling<turn|>\n<|turn>user\n"
        "Q<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
    ),
    # Thinking is known to the template, and the prompt leaves it out.
    "thought left out": Style(
        _turns(
            "'[INST]' + m.content + '[/INST]'",
            "('[THINK]' + m.reasoning_content + '[/THINK]' if m.reasoning_content else "
            "'') + m.content + eos_token",
            "",
            system="'[SYS]' + m.content",
        ),
        ("[INST]", "[/INST]", "[THINK]", "[/THINK]", "[SYS]"),
        asked="[INST]Q[/INST]",
        end="<eos>",
        thinking="skipped",
        shown="[INST]E[/INST]billing<eos>[INST]Q[/INST]",
    ),
    # A switch that only this template has, with values of its own.
    "a switch of its own": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n<think>' }}"
            "{% if thinking_mode == 'no_think' %}{{ '</think>' }}{% endif %}",
        ),
        "<think></think>",
    ),
    "a budget for thinking": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n<think>\n' }}"
            r"{% if thinking_budget == 0 %}{{ '\n</think>\n' }}{% endif %}",
        ),
        "<think>\n\n</think>\n",
    ),
    # Leaves thinking to the model unless it is told not to.
    "a switch that closes": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n' }}"
            r"{{ '<think></think>' if disable_thinking }}",
        ),
        "<think></think>",
    ),
    "a token for no thinking": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n' }}{{ '<|think_off|>' if thinking is false "
            "else '<|think_on|>' }}",
        ),
        "<|think_off|>",
        controls=(*_CHATML, "<|think_on|>", "<|think_off|>"),
    ),
    # The last text is followed by something that earlier ones are not.
    "a reminder": Style(
        _turns(
            r"'<|im_start|>user\n' + m.content + (' /brief' if loop.last else '') + "
            r"'<|im_end|>\n'",
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}",
            system=_IM_USER.replace("user", "system"),
        ),
        _CHATML,
        asked=_IM_Q.replace("Q", "Q /brief") + "<think>\n\n</think>\n\n",
        end="<|im_end|>",
        thinking="closed",
        shown=_IM_E.replace("Q", "Q /brief") + "<think>\n\n</think>\n\n",
    ),
    # A list that is there only when tools are in use.
    "goes through tools": _chatml(
        "{% for tool in tools %}{{ tool.name }}{% endfor %}"
        + _turns(_IM_USER, _IM_ANSWER, r"{{ '<|im_start|>assistant\n' }}")
    ),
    "written by a macro": _chatml(
        "{% macro turn(role, content) %}{{ '<|im_start|>' + role + '\n' + content + "
        "'<|im_end|>\n' }}{% endmacro %}{% for m in messages %}"
        "{% if m.role == 'assistant' %}{% generation %}{{ turn(m.role, m.content) }}"
        "{% endgeneration %}{% else %}{{ turn(m.role, m.content) }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{{ '<think></think>' if skip_thinking }}{% endif %}",
        "<think></think>",
    ),
    # Texts of users, but parts of answers.
    "answers in parts": Style(
        _turns(
            _IM_USER,
            r"'<|im_start|>assistant\n' + (m.content[0].text or '') + '<|im_end|>\n'",
            r"{{ '<|im_start|>assistant\n' }}",
            system=_IM_USER.replace("user", "system"),
        ),
        _CHATML,
        asked=_IM_Q,
        end="<|im_end|>",
        thinking="none",
        shown="",
    ),
    # Only the last answer has an end of its own; the others end with a header.
    "an end for the last answer": Style(
        _turns(
            "'<|user|>' + m.content",
            "'<|assistant|>' + m.content + (eos_token if loop.last else '')",
            "<|assistant|>",
        ),
        ("<|user|>", "<|assistant|>", "<|system|>"),
        asked="<|user|>Q<|assistant|>",
        end="<eos>",
        thinking="none",
        shown="<|user|>E<|assistant|>billing<|user|>Q<|assistant|>",
    ),
    # The block is closed by a switch, and the mark of an answer follows at once.
    "a mark in the prompt and before answers": Style(
        _turns(
            _IM_USER,
            r"'<|im_start|>assistant\n<answer>\n' + m.content + "
            r"'\n</answer><|im_end|>\n'",
            r"{{ '<|im_start|>assistant\n<think>\n' }}"
            r"{{ '</think>\n<answer>\n' if enable_thinking is false }}",
        ),
        (*_CHATML, "<answer>", "</answer>"),
        asked=_IM_Q + "<think>\n</think>\n<answer>\n",
        end="\n</answer><|im_end|>",
        thinking="closed",
        shown=_IM_E.replace("billing", "<answer>\nbilling\n</answer>")
        + "<think>\n</think>\n<answer>\n",
    ),
    "two switches": _chatml(
        _turns(
            _IM_USER,
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n<think>' }}"
            "{{ '</think>' if enable_thinking is false and thinking is false }}",
        ),
        "<think></think>",
    ),
    # A text about thinking, within the user's turn, is no block.
    "a reminder to think": Style(
        _turns(
            r"'<|im_start|>user\n' + m.content + ('\nThink in <think> and </think>.' "
            r"if loop.last and enable_thinking is not false else '') + '<|im_end|>\n'",
            _IM_ANSWER,
            r"{{ '<|im_start|>assistant\n' }}",
            system=_IM_USER.replace("user", "system"),
        ),
        _CHATML,
        asked=_IM_Q,
        end="<|im_end|>",
        thinking="skipped",
        shown=_IM_E,
    ),
    # The header is missing from the generation prompt, and no conversation may end
    # with an answer.
    "ends with a user": _chatml(
        "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no text') }}"
        "{% endif %}" + _turns(_IM_USER, _IM_ANSWER, "<|im_start|>")
    ),
    "an answer that is written twice": Style(
        _turns(
            _IM_USER,
            r"'<|im_start|>assistant\n' + m.content + '<|im_end|>\n<|im_start|>summary"
            r"\n' + m.content + '<|im_end|>\n'",
            r"{{ '<|im_start|>assistant\n' }}",
        ),
        _CHATML,
        asked=_IM_Q,
        end="<|im_end|>",
        thinking="none",
        shown="",
    ),
}

# Shows the channel of a thought, in the last turn.
CHANNELS_WITH_ANALYSIS = _turns(
    "'<|start|>user<|message|>' + m.content + '<|end|>'",
    "('<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' "
    "if m.thinking and loop.last else '') + "
    "'<|start|>assistant<|channel|>final<|message|>' + m.content + "
    "('<|return|>' if loop.last else '<|end|>')",
    "<|start|>assistant",
)
# An answer needs its thought.
THOUGHTFUL = _turns(
    _IM_USER,
    r"'<|im_start|>assistant\n<think>\n' + m.reasoning_content + '\n</think>\n' + "
    r"m.content + '<|im_end|>\n'",
    r"{{ '<|im_start|>assistant\n<think>\n' }}",
)
# The system prompt follows the last text, or the last answer.
SYSTEM_LAST = (
    "{% for m in messages | rejectattr('role', 'equalto', 'system') %}{{ "
    r"'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% for m in messages | selectattr('role', 'equalto', 'system') %}{{ "
    r"'<|im_start|>system\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Templates that cannot be read at an answer, or not with all that was given.
# What an answer of a history holds is closed by itself.
WITHIN_A_BLOCK = _turns(
    _IM_USER,
    r"'<|im_start|>assistant\n<ponder>\n' + m.content + '<|im_end|>\n'",
    r"{{ '<|im_start|>assistant\n<ponder>\n' }}",
)
FORCED = _turns(
    _IM_USER,
    "'<|im_start|>assistant\n' + m.content.split('</think>')[-1] + '<|im_end|>\n'",
    r"{{ '<|im_start|>assistant\n<think>\n' }}",
)
SWITCHED_BY_SYSTEM = (
    "{% set ns = namespace(off=false) %}{% for m in messages %}{% if '/no_think' in "
    "m.content %}{% set ns.off = true %}{% endif %}{% endfor %}"
    + _turns(
        _IM_USER,
        _IM_ANSWER,
        r"{{ '<|im_start|>assistant\n' }}{{ '<think></think>' if ns.off else "
        r"'<think>\n' }}",
    )
)
SWITCHED_BY_THE_LAST_WORD = (
    "{% set off = messages[-1].content.endswith('/direct_no_think') %}"
    + _turns(
        _IM_USER,
        _IM_ANSWER,
        r"{{ '<|im_start|>assistant\n' }}{{ '<think></think>' if off else "
        r"'<think>\n' }}",
    )
)
# Templates that write a text otherwise than it is.
CHANGING = tuple(
    _turns(
        _IM_USER.replace("m.content", change),
        _IM_ANSWER,
        r"{{ '<|im_start|>assistant\n' }}",
        system=_IM_USER.replace("user", "system"),
    )
    for change in (
        "(m.content | tojson)",
        "(m.content | e | string)",
        "(m.content | lower)",
        r"(m.content | replace('\n', ' '))",
        r"(m.content | replace('\r\n', '\n'))",
        "(m.content.split() | join(' '))",
        "(m.content | wordwrap(60))",
        "m.content[:3000]",
    )
)
REASONING_IN_WORDS = _turns(
    _IM_USER,
    r"'<|im_start|>assistant\n' + m.content.split('[FINAL]')[-1] + '<|im_end|>\n'",
    r"{{ '<|im_start|>assistant\nHere is how I see it:\n' }}",
)
WITHOUT_SYSTEM = _turns(
    _IM_USER, _IM_ANSWER, r"{{ '<|im_start|>assistant\n' }}"
).replace(
    "{% if m.role == 'system' %}{{ " + _IM_USER.replace("user", "system") + " }}",
    "{% if m.role == 'system' %}",
)
WITHOUT_EXAMPLES = (
    "{% for m in messages %}{% if m.role == 'system' or loop.last or add_examples %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
DATED = (
    r"<|im_start|>system{{ '\nToday: ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}"
    + _turns(_IM_USER, _IM_ANSWER, r"{{ '<|im_start|>assistant\n' }}")
)
TRIMMING = _turns(
    _IM_USER.replace("m.content", "m.content | trim"),
    _IM_ANSWER,
    r"{{ '<|im_start|>assistant\n' }}",
)


@functools.cache
def _trained() -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return str(backend.to_str())


def chat_tokenizer(template: str, controls: tuple[str, ...] = _CHATML) -> TextTokenizer:
    """Return a byte-level tokenizer with these control tokens and this template."""
    backend = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        bos_token="<bos>",
        eos_token="<eos>",
    )
    backend.add_special_tokens({"additional_special_tokens": list(controls)})
    backend.chat_template = template
    return TextTokenizer(backend, "tiny")
