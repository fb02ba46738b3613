"""`/v1/systemone`: the request form of TypeSafe's System One API.

Followed: the API reference of docs.typesafe.ai as of Jev 1.13 (October 2026), and what
the System One Compatibility Specification 1.0 (draft) asks of answers.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from classify.serve.deciding import Answered, Decider, Question, as_text, question_of

__all__ = ["EXAMPLES", "SystemOneRequest", "system_one"]

EXAMPLES = {
    "ticket": {
        "summary": "Three kinds of questions about one text",
        "value": {
            "state": "My payouts have been failing for 3 days.",
            "model": "jev-latest",
            "questions": {
                "urgent": {"type": "noul", "instructions": "Is this urgent?"},
                "team": {
                    "type": "choice",
                    "instructions": "Which team should handle this?",
                    "criteria": {"billing": "payments", "sales": "new accounts"},
                },
                "mood": {
                    "type": "score",
                    "instructions": "How upset is the customer?",
                    "criteria": ["calm", "annoyed", "angry"],
                },
            },
        },
    }
}

# Text, or JSON that is written out.
_Content = str | dict[str, Any] | list[Any]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoulCriteria(_Form):
    """The meaning of yes and no."""

    true: _Content | None = None
    false: _Content | None = None


class Noul(_Form):
    """A question that is answered with yes or no."""

    type: Literal["noul"]
    instructions: _Content | None = None
    criteria: NoulCriteria | None = None


class Choice(_Form):
    """One of several options, each with a description or null."""

    type: Literal["choice"]
    instructions: _Content | None = None
    criteria: dict[str, _Content | None]


class Score(_Form):
    """A place on a scale of levels, the lowest first."""

    type: Literal["score"]
    instructions: _Content | None = None
    criteria: list[_Content]


class SystemOneRequest(_Form):
    """Questions about one state."""

    state: Annotated[_Content, Field(description="Text, or JSON that is written out.")]
    model: Annotated[
        str | None, Field(description="Any name; the model of this server answers.")
    ] = None
    questions: Annotated[
        dict[str, Annotated[Noul | Choice | Score, Field(discriminator="type")]],
        Field(min_length=1),
    ]


async def system_one(decider: Decider, request: SystemOneRequest) -> dict[str, Any]:
    """Return the answers to a request, without the model's name."""
    asked = request.questions
    decided = await decider.decide(
        as_text(request.state), [_question(key, each) for key, each in asked.items()]
    )
    pairs = zip(asked.items(), decided.answers, strict=True)
    return {
        "answers": {key: _answer(each, answered) for (key, each), answered in pairs},
        "usage": {
            "input_tokens": decided.n_input_tokens,
            "output_tokens": decided.n_output_tokens,
        },
    }


def _question(key: str, asked: Noul | Choice | Score) -> Question:
    options: list[tuple[str, Any]]
    match asked:
        case Noul():
            criteria = asked.criteria or NoulCriteria()
            options = [("yes", criteria.true), ("no", criteria.false)]
        case Choice():
            options = list(asked.criteria.items())
        case Score():
            options = [(str(level), text) for level, text in enumerate(asked.criteria)]
    return question_of(
        f"Question {key!r}",
        as_text(asked.instructions or ""),
        [(name, None if text is None else as_text(text)) for name, text in options],
    )


def _answer(asked: Noul | Choice | Score, answered: Answered) -> dict[str, Any]:
    probabilities = answered.probabilities
    answer: dict[str, Any]
    about = answered.about
    match asked:
        case Noul():
            answer, about = {"noul": probabilities[0]}, answered.about_first
        case Choice():
            names = list(asked.criteria)
            answer = {
                "choice": names[answered.best],
                "probabilities": dict(zip(names, probabilities, strict=True)),
                "confidence": answered.confidence,
            }
        case Score():
            levels = [str(level) for level in range(len(probabilities))]
            answer = {
                "score": answered.expected,
                "legend": dict(zip(levels, map(as_text, asked.criteria), strict=True)),
                "probabilities": dict(zip(levels, probabilities, strict=True)),
                "confidence": answered.confidence,
            }
    return {"type": asked.type, **answer, **about}
