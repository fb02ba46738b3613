"""How the parts of a prompt are laid out: as one plain text, or as a chat."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from classify.errors import PromptError
from classify.prompts.parts import Part, separator_behind
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

__all__ = ["Layout", "lay_out_chat", "lay_out_plain"]

# Marks that stand for data while a chat template is rendered: private-use characters,
# which no template and no sane text contains.
_MARK = re.compile("\ue010(\\d+)\ue011")
_ANSWER = "\ue012"


class Layout(NamedTuple):
    """The parts of a prompt in order, and what the chat template says of answers.

    Attributes
    ----------
    parts : list of Segment or Field
    separator : str or None
        What the template puts before an answer; None: decide by the prompt's tail.
    end_of_turn_id : int or None
        The control token that it puts behind one.
    """

    parts: list[Part]
    separator: str | None
    end_of_turn_id: int | None


def lay_out_plain(
    system: Sequence[Part],
    examples: Sequence[tuple[Sequence[Segment], str]],
    body: Sequence[Part],
    answer_prefix: str,
) -> Layout:
    """Write system prompt, examples and body one after the other."""
    prefix = Segment(answer_prefix, is_data=False)
    gap = Segment("\n\n", is_data=False)
    parts: list[Part] = [*system, gap] if system else []
    for shown, answer in examples:
        space = separator_behind([*shown, prefix], answer)
        parts += [*shown, prefix, Segment(space + answer, is_data=True), gap]
    return Layout([*parts, *body, prefix], None, None)


def lay_out_chat(
    tokenizer: Tokenizer,
    system: Sequence[Part],
    examples: Sequence[tuple[Sequence[Segment], str]],
    body: Sequence[Part],
    answer_prefix: str,
) -> Layout:
    """Render the chat template once, with marks where the rows' text belongs."""
    held: list[Part] = []

    def marked(parts: Sequence[Part]) -> str:
        content = ""
        for part in parts:
            if isinstance(part, Segment) and not part.is_data:
                content += part.text
            else:
                content += f"\ue010{len(held)}\ue011"
                held.append(part)
        return content

    messages = [{"role": "system", "content": marked(system)}] if system else []
    for shown, answer in examples:
        prefix = Segment(answer_prefix, is_data=False)
        space = separator_behind([prefix], answer)
        spoken = [prefix, Segment(space + answer, is_data=True)]
        messages.append({"role": "user", "content": marked(shown)})
        messages.append({"role": "assistant", "content": marked(spoken)})
    messages.append({"role": "user", "content": marked(body)})
    # A model that can think is asked for its answer at once: the label is read at the
    # first position after the prompt. Templates that know no thinking ignore this.
    arguments: dict[str, Any] = {"enable_thinking": False}
    rendered = tokenizer.render_chat(messages, add_generation_prompt=True, **arguments)
    pieces = _MARK.split(rendered)
    if sorted(map(int, pieces[1::2])) != list(range(len(held))):
        raise PromptError(
            f"The chat template of {tokenizer.name!r} changes or drops parts of its "
            "messages, so that the text cannot be placed: use "
            f"{parameter('chat', False)}."
        )
    parts: list[Part] = []
    for at, piece in enumerate(pieces):
        parts.append(held[int(piece)] if at % 2 else Segment(piece, is_data=False))
    answered = tokenizer.render_chat(
        [*messages, {"role": "assistant", "content": _ANSWER}],
        add_generation_prompt=False,
        **arguments,
    )
    before, _, after = answered.rpartition(_ANSWER)
    controls = tokenizer.find_controls(after)
    end_of_turn = controls[0][2] if controls else None
    # What the template puts between the generation prompt and an answer (" " in some).
    gap = before.removeprefix(rendered) if before.startswith(rendered) else ""
    gap = gap if gap.isspace() else ""
    if answer_prefix:
        parts.append(Segment(gap + answer_prefix, is_data=False))
        return Layout(parts, None, end_of_turn)
    return Layout(parts, gap, end_of_turn)
