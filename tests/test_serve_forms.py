"""`/v1/decisions` and `/v1/systemone`: what their clients send and read."""

import numpy as np
import pytest

from classify.serve import ServeSettings, make_app
from tests.toy_jobs import NO_TEXT, dying_engine, make

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from tests.test_serve import ask, refused  # noqa: E402 it needs them too

TEXT = "My payouts have been failing for 3 days."
TEAMS = {"billing and payments": "money", "sales": None, "billing": "invoices"}
MOODS = ["calm", "annoyed", "very angry indeed"]


def expected(question, labels):
    """Ask a classifier the same question; return the probabilities, by option."""
    template = f"{{text}}\n\nQuestion: {question}\nOptions:\n{{labels}}\nAnswer:"
    clf = make(template=template).set_params(labels=labels)
    scores = clf.label_logprobs([TEXT])
    named = dict(zip(clf.classes_.tolist(), scores.proba[0], strict=True))
    return [named[name] for name in labels], scores.label_mass[0]


def answered(path, **body):
    response = ask(make_app(make()), body, path=path)
    assert response.status_code == 200, response.text
    return response.json()


def confidence(probabilities):
    n_options = len(probabilities)
    return (n_options * max(probabilities) - 1) / (n_options - 1)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# --------------------------------------------------------------------------- System One


def system_one(**questions):
    return answered(
        "/v1/systemone", state=TEXT, model="jev-latest", questions=questions
    )


def test_a_noul_is_the_probability_of_yes():
    found = system_one(urgent={"type": "noul", "instructions": "Is this urgent?"})
    proba, mass = expected("Is this urgent?", {"yes": None, "no": None})
    answer = found["answers"]["urgent"]
    close([answer["noul"], answer["label_mass"]], [proba[0], mass])
    assert set(answer) == {
        *("type", "noul", "lower", "upper", "certain"),
        *("label_mass", "unresolved", "truncated"),
    }
    assert (answer["type"], answer["truncated"]) == ("noul", False)
    assert found["model"] == "demo"
    assert found["usage"]["input_tokens"] > len(TEXT)
    assert found["usage"]["output_tokens"] == 0


def test_criteria_describe_yes_and_no():
    criteria = {"true": "time matters", "false": {"time": "does not matter"}}
    question = {"type": "noul", "instructions": "Urgent?", "criteria": criteria}
    labels = {"yes": "time matters", "no": '{"time": "does not matter"}'}
    proba, _ = expected("Urgent?", labels)
    close(system_one(q=question)["answers"]["q"]["noul"], proba[0])


def test_a_choice_and_a_score_in_one_request():
    found = system_one(
        team={"type": "choice", "instructions": "Which team?", "criteria": TEAMS},
        mood={"type": "score", "instructions": "How upset?", "criteria": MOODS},
    )["answers"]
    proba, _ = expected("Which team?", TEAMS)
    team = found["team"]
    assert list(team["probabilities"]) == list(TEAMS)
    close(list(team["probabilities"].values()), proba)
    assert team["choice"] == list(TEAMS)[int(np.argmax(proba))]
    close(team["confidence"], confidence(proba))
    proba, _ = expected("How upset?", {str(at): mood for at, mood in enumerate(MOODS)})
    mood = found["mood"]
    close([mood["probabilities"][str(at)] for at in range(3)], proba)
    close(mood["score"], proba[1] + 2 * proba[2])
    assert mood["legend"] == {str(at): each for at, each in enumerate(MOODS)}


def test_more_options_than_letters_and_a_state_that_is_json():
    criteria = {f"option {at}": None for at in range(40)}
    question = {"type": "choice", "criteria": criteria}
    body = {"state": {"subject": "parcel"}, "questions": {"q": question}}
    answer = answered("/v1/systemone", **body)["answers"]["q"]
    assert len(answer["probabilities"]) == 40
    close(sum(answer["probabilities"].values()), 1.0)


def system_one_refused(question, status=422, state=TEXT, app=None):
    body = {"state": state, "questions": {"q": question}}
    response = ask(app or make_app(make()), body, path="/v1/systemone")
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    assert set(detail) == {"message", "error_type"}
    return detail["message"]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (
            {"type": "choice", "criteria": {"one": None}},
            (
                "Question 'q': Classification needs at least two labels. Got only "
                "'one' instead: add the others, for example 'other'."
            ),
        ),
        (
            {"type": "score", "criteria": {}},
            "questions.q.score.criteria: input should be a valid list.",
        ),
        (
            {"type": "noul", "instruction": "Is it?"},
            (
                "Unknown field questions.q.noul.instruction: remove it, or correct its "
                "name."
            ),
        ),
    ],
)
def test_a_question_that_cannot_be_asked(question, sentence):
    assert system_one_refused(question) == sentence


def test_system_one_has_errors_of_its_own_form():
    noul = {"type": "noul", "instructions": "Is it?"}
    assert system_one_refused(noul, state=" ") == NO_TEXT
    app = make_app(make(engine=dying_engine("failing")))
    sentence = "The model cannot answer: The engine died."
    assert system_one_refused(noul, 503, app=app) == sentence
    app = make_app(make(), ServeSettings(max_text_length=10))
    assert system_one_refused(noul, 413, app=app) == (
        "The request has 40 characters, but this server allows 10: send fewer in one "
        "request."
    )


# ---------------------------------------------------------------------------- Decisions


def decide(*questions, given=TEXT):
    return answered("/v1/decisions", model="m", input=given, questions=list(questions))


PREDICATE = {"type": "predicate", "instructions": "It is urgent."}
CHOICE = {
    "type": "choice",
    "name": "team",
    "instructions": "Which team?",
    "choices": [{"value": name, "description": text} for name, text in TEAMS.items()],
}
SCORE = {
    "type": "score",
    "instructions": [{"type": "input_text", "text": "How upset?"}],
    "levels": [{"label": mood} for mood in MOODS],
}


def test_a_predicate_a_choice_and_a_score():
    found = decide(PREDICATE, CHOICE, SCORE)
    predicate, choice, score = found["answers"]
    proba, _ = expected("Is this true? It is urgent.", {"yes": None, "no": None})
    close(predicate["probability"], proba[0])
    assert (predicate["type"], predicate["name"]) == ("predicate", None)
    proba, _ = expected("Which team?", TEAMS)
    close([each["probability"] for each in choice["probabilities"]], proba)
    assert [each["value"] for each in choice["probabilities"]] == list(TEAMS)
    assert choice["choice"] == list(TEAMS)[int(np.argmax(proba))]
    assert choice["name"] == "team"
    proba, _ = expected("How upset?", dict.fromkeys(MOODS))
    close([each["probability"] for each in score["probabilities"]], proba)
    assert [each["value"] for each in score["probabilities"]] == [0, 1, 2]
    close(score["score"], proba[1] + 2 * proba[2])
    usage = found["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] > 0


def test_the_client_of_openai_can_read_it():
    types = pytest.importorskip("openai.types")
    found = types.Decision.model_validate(decide(PREDICATE, CHOICE, SCORE))
    assert [each.type for each in found.answers] == ["predicate", "choice", "score"]


def test_the_bounds_of_a_statement_are_those_of_its_being_true():
    # With a tolerance, bounds are apart; hashed values make some yes, some no.
    app = make_app(make(tolerance=0.5))
    statements = [f"It is number {n}." for n in range(12)]
    questions = [{"type": "predicate", "instructions": each} for each in statements]
    body = {"input": TEXT, "questions": questions}
    answers = ask(app, body, path="/v1/decisions").json()["answers"]
    nouls = {each: {"type": "noul", "instructions": each} for each in statements}
    body = {"state": TEXT, "questions": nouls}
    found = ask(app, body, path="/v1/systemone").json()["answers"].values()
    pairs = [(each, each["probability"]) for each in answers]
    pairs += [(each, each["noul"]) for each in found]
    assert {probability > 0.5 for _, probability in pairs} == {True, False}
    for each, probability in pairs:
        assert each["lower"] <= probability <= each["upper"]


def test_choices_that_are_booleans_stay_booleans():
    choices = [{"value": True}, {"value": False}]
    [answer] = decide({**CHOICE, "choices": choices})["answers"]
    assert [each["value"] for each in answer["probabilities"]] == [True, False]
    assert answer["choice"] in (True, False)
    both = {**CHOICE, "choices": [{"value": True}, {"value": "true"}]}
    body = {"input": TEXT, "questions": [both]}
    assert refused(make_app(make()), body, path="/v1/decisions") == (
        "Question 'team': Labels must be unique. 'true' declared more than once: "
        "remove or rename the repeats."
    )


def test_a_question_has_a_maximum_length():
    app = make_app(make(), ServeSettings(max_text_length=40))
    choices = [{"value": "sales"}, {"value": "billing", "description": "x" * 20}]
    question = {"type": "choice", "instructions": "Which team?", "choices": choices}
    body = {"input": "short", "questions": [question]}
    assert refused(app, body, 413, path="/v1/decisions") == (
        "The request has 43 characters in one of its questions, but this server allows "
        "40: send fewer in one request."
    )


def test_messages_with_text():
    one = {"role": "user", "content": [{"type": "input_text", "text": TEXT}]}
    assert decide(CHOICE, given=[one]) == decide(CHOICE)
    two = [{"role": "system", "content": "Be kind."}, one]
    assert decide(CHOICE, given=two) == decide(
        CHOICE, given=f"system: Be kind.\n\nuser: {TEXT}"
    )
    image = {"type": "input_image", "image_url": "data:image/png;base64,"}
    body = {"input": [{"role": "user", "content": [image]}], "questions": [CHOICE]}
    assert refused(make_app(make()), body, path="/v1/decisions") == (
        "input has a part of type 'input_image', but this server only reads text: "
        "send parts of type 'input_text'."
    )


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/systemone"])
def test_the_examples_of_the_documentation_are_answered(path):
    app = make_app(make())
    spec = ask(app, path="/openapi.json").json()
    content = spec["paths"][path]["post"]["requestBody"]["content"]
    for example in content["application/json"]["examples"].values():
        response = ask(app, example["value"], path=path)
        assert response.status_code == 200, response.text
        assert len(response.json()["answers"]) == 3
