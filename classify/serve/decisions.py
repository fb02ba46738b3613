"""`/v1/decisions`: the request form of OpenAI's Decisions API.

Followed: the types of the Python package openai 3.54.0 (public beta, October 2026).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from classify.errors import InputError
from classify.serve.deciding import Answered, Decider, Question, as_text, question_of

__all__ = ["EXAMPLES", "DecisionRequest", "decisions"]

EXAMPLES = {
    "ticket": {
        "summary": "Three kinds of questions about one text",
        "value": {
            "model": "gpt-6-luna",
            "input": "My payouts have been failing for 3 days.",
            "questions": [
                {"type": "predicate", "instructions": "The customer is in a hurry."},
                {
                    "type": "choice",
                    "name": "team",
                    "instructions": "Which team should handle this?",
                    "choices": [
                        {"value": "billing", "description": "payments and refunds"},
                        {"value": "sales"},
                    ],
                },
                {
                    "type": "score",
                    "name": "mood",
                    "instructions": "How upset is the customer?",
                    "levels": [{"label": "calm"}, {"label": "annoyed"}],
                },
            ],
        },
    }
}

# Parts of a message by their type: the field that holds the text.
_TEXT_PARTS = {"input_text": "text", "output_text": "text", "input_json": "data"}


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


_Parts = str | list[dict[str, Any]]


class Message(_Form):
    """A message with text; other roles than the user's are named in the prompt."""

    type: Literal["message"] = "message"
    role: Literal["user", "developer", "system", "assistant"]
    content: _Parts
    phase: str | None = None


class Predicate(_Form):
    """How likely it is that a statement is true."""

    type: Literal["predicate"]
    instructions: _Parts
    name: str | None = None


class Option(_Form):
    """A choice; true and "true" are different values, but not different answers."""

    value: Annotated[bool, Field(strict=True)] | str
    description: str | None = None


class Choice(_Form):
    """One of several choices."""

    type: Literal["choice"]
    instructions: _Parts
    choices: list[Option]
    name: str | None = None


class Level(_Form):
    """A level of a scale."""

    label: str
    description: str | None = None


class Score(_Form):
    """A place on a scale of levels, the lowest first."""

    type: Literal["score"]
    instructions: _Parts
    levels: list[Level]
    name: str | None = None


class DecisionRequest(_Form):
    """Questions about one input."""

    input: Annotated[
        str | list[Message], Field(description="A text, or messages with text.")
    ]
    model: Annotated[
        str | None, Field(description="Any name; the model of this server answers.")
    ] = None
    questions: Annotated[
        list[Annotated[Predicate | Choice | Score, Field(discriminator="type")]],
        Field(min_length=1),
    ]
    # They change no answer.
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None


async def decisions(decider: Decider, request: DecisionRequest) -> dict[str, Any]:
    """Return the answers to a request, without the model's name."""
    asked = request.questions
    decided = await decider.decide(
        _input(request.input), [_question(at, each) for at, each in enumerate(asked)]
    )
    n_input, n_output = decided.n_input_tokens, decided.n_output_tokens
    return {
        "answers": [
            {**_answer(each, answered), "name": each.name}
            for each, answered in zip(asked, decided.answers, strict=True)
        ],
        "usage": {
            "input_tokens": n_input,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": n_output,
            "output_tokens_details": {"reasoning_tokens": n_output},
            "total_tokens": n_input + n_output,
        },
    }


def _input(given: str | Sequence[Message]) -> str:
    if isinstance(given, str):
        return given
    texts = [(each.role, _joined(each.content, "input")) for each in given]
    if [role for role, _ in texts] == ["user"]:
        return texts[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in texts)


def _joined(parts: _Parts, where: str) -> str:
    """Return the text of parts; images and refusals have none."""
    if isinstance(parts, str):
        return parts
    texts = []
    for part in parts:
        field = _TEXT_PARTS.get(str(part.get("type")), "")
        if field not in part:
            raise InputError(
                f"{where} has a part of type {part.get('type')!r}, but this server "
                "only reads text: send parts of type 'input_text'."
            )
        texts.append(as_text(part[field]))
    return "\n".join(texts)


def _question(at: int, asked: Predicate | Choice | Score) -> Question:
    where = f"Question {asked.name or at!r}"
    options: list[tuple[str, str | None]]
    match asked:
        case Predicate():
            options = [("yes", None), ("no", None)]
        case Choice():
            options = [(_word(each), each.description) for each in asked.choices]
        case Score():
            options = [(each.label, each.description) for each in asked.levels]
    instructions = _joined(asked.instructions, where)
    if isinstance(asked, Predicate):
        instructions = f"Is this true? {instructions}"
    return question_of(where, instructions, options)


def _word(choice: Option) -> str:
    value = choice.value
    return str(value).lower() if isinstance(value, bool) else value


def _answer(asked: Predicate | Choice | Score, answered: Answered) -> dict[str, Any]:
    probabilities = answered.probabilities
    answer: dict[str, Any]
    about = answered.about
    match asked:
        case Predicate():
            answer, about = {"probability": probabilities[0]}, answered.about_first
        case Choice():
            values = [each.value for each in asked.choices]
            answer = {
                "choice": values[answered.best],
                "confidence": answered.confidence,
                "probabilities": [
                    {"value": value, "probability": probability}
                    for value, probability in zip(values, probabilities, strict=True)
                ],
            }
        case Score():
            levels = enumerate(zip(asked.levels, probabilities, strict=True))
            answer = {
                "score": answered.expected,
                "confidence": answered.confidence,
                "probabilities": [
                    {"label": level.label, "value": at, "probability": probability}
                    for at, (level, probability) in levels
                ],
            }
    return {"type": asked.type, **answer, **about}
