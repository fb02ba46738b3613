"""The application: its paths and their handlers."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence, Sized
from functools import partial
from typing import Annotated, Any, TypeGuard, TypeVar

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.distribution import VERSION
from classify.errors import ConfigError, InputError
from classify.estimators.asked import Asked, AskedQuestion, given_questions
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.files.json import unique_keys
from classify.serve import decisions, system_one
from classify.serve.answers import served_questions
from classify.serve.classifying import (
    EXAMPLES,
    ClassifyRequest,
    ClassifyResponse,
    Decisions,
    classify_rows,
)
from classify.serve.deciding import Decider
from classify.serve.decisions import DecisionRequest
from classify.serve.guard import ClientLeftError, Guard, path_of
from classify.serve.metrics import CONTENT_TYPE, Metrics
from classify.serve.refusals import (
    SYSTEM_ONE,
    RefusedError,
    json_response,
    refusal,
    validation_sentence,
)
from classify.serve.service import Service
from classify.serve.settings import ServeSettings
from classify.serve.system_one import SystemOneRequest
from classify.wording import parameter

__all__ = ["make_app"]

_Answer = TypeVar("_Answer")

_DESCRIPTION = (
    "Returns the probability that a language model gives each label. If the server "
    "requires a key, send it as `Authorization: Bearer KEY`. "
    'Errors are `{"error": {"message": …, "type": …}}`.'
)


def make_app(
    classifier: ZeroShotClassifier | ZeroShotMultiLabelClassifier | None = None,
    settings: ServeSettings | None = None,
    *,
    questions: Sequence[Asked] = (),
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
    text_column: str = "text",
    labels_column: str | None = None,
) -> FastAPI:
    """Return an ASGI application that classifies; it loads the model.

    Parameters
    ----------
    classifier : ZeroShotClassifier or ZeroShotMultiLabelClassifier, default=None
        Without labels, every request must give its own.
    settings : ServeSettings, default=None
    questions : sequence of Asked, default=()
        In place of `classifier`: questions that are asked about each text, over one
        model.
    selective : SelectiveClassifier, default=None
        Fitted: withholds labels, as in `ZeroShotClassifier.classify_frame`.
    sets : SplitConformalSets, default=None
        Fitted: adds prediction sets.
    text_column : str, default="text"
        The column of a request's rows that holds the text.
    labels_column : str, default=None
        The column that holds each row's candidates, if there is one question, with
        one answer.

    Examples
    --------
    >>> from classify import ZeroShotClassifier
    >>> app = make_app(ZeroShotClassifier(labels=["billing", "shipping"]))
    >>> app.title
    'classify'
    """
    settings = settings or ServeSettings()
    questions = given_questions(
        "A server has", classifier, questions, selective=selective, sets=sets
    )
    service = Service(questions[0].classifier, settings)
    metrics = Metrics(service)
    rules, served = Decisions(), list[Asked]()
    if _is_choice(questions):
        [only] = questions
        calibrator = only.classifier.fitted_calibrator()
        rules = Decisions(calibrator, only.selective, only.sets)
    elif labels_column is not None:
        raise ConfigError(
            f"{parameter('labels_column', labels_column)} gives each row its own "
            "labels, which is for a single question, without a name, that has one "
            "answer: leave it out."
        )
    else:
        served = served_questions(service, questions)
    app = FastAPI(
        title="classify", version=VERSION, description=_DESCRIPTION, redoc_url=None
    )
    app.router.route_class = _Route

    @app.post("/v1/classify", responses={200: {"model": ClassifyResponse}})
    async def classify(
        request: Request,
        body: Annotated[ClassifyRequest, Body(openapi_examples=EXAMPLES)],
    ) -> Response:
        """Classify texts; one that cannot be classified has its reason in `error`."""
        work = classify_rows(
            service,
            body,
            rules,
            questions=served,
            text_column=text_column,
            labels_column=labels_column,
        )
        results = await _while_connected(request, work)
        request.scope["classify.n_texts"] = len(results)
        return json_response({"model": service.model_name, "results": results})

    _add_decisions(app, service)
    _add_watching(app, service, metrics)
    _add_errors(app)
    paths = {path for route in app.routes if (path := getattr(route, "path", ""))}
    app.add_middleware(
        Guard,
        metrics=metrics,
        paths=paths,
        key=settings.client_key(),
        max_body_bytes=settings.max_body_bytes,
        timeout=settings.timeout,
    )
    return app


def _is_choice(questions: Sequence[Asked]) -> TypeGuard[Sequence[AskedQuestion]]:
    """Return whether there is a single question, without a name, with one answer."""
    first, *others = questions
    return isinstance(first, AskedQuestion) and not first.name and not others


class _Request(Request):
    """A request whose JSON has no key twice: one of the values would be lost."""

    async def json(self) -> Any:
        try:
            return json.loads(await self.body(), object_pairs_hook=_object)
        except json.JSONDecodeError:
            raise
        except (RecursionError, ValueError):
            what = "it is not UTF-8, is nested too deeply, or has too long a number"
            raise json.JSONDecodeError(what, "", 0) from None


class _Route(APIRoute):
    def get_route_handler(
        self,
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Request(request.scope, request.receive))

        return handle


def _repeated(key: str) -> HTTPException:
    return HTTPException(
        422,
        f"The request has the key {key[:100]!r} twice in one JSON object: remove or "
        "rename one of them",
    )


_object = partial(unique_keys, refused=_repeated)


def _add_decisions(app: FastAPI, service: Service) -> None:
    """Add the request forms of OpenAI and TypeSafe."""
    decider = Decider(service)

    @app.post("/v1/decisions")
    async def openai_decisions(
        request: Request,
        body: Annotated[DecisionRequest, Body(openapi_examples=decisions.EXAMPLES)],
    ) -> Response:
        """Answer a request of OpenAI's Decisions API (openai 3.54.0, public beta).

        Options of any number of tokens, and any number of them. `confidence` is
        (n p - 1) / (n - 1), of n options whose most likely has probability p. Answers
        also have `lower`, `upper`, `certain`, `label_mass`, `unresolved` and
        `truncated`, as in `/v1/classify`; bounds are those of a predicate's
        probability, and of the most likely option.
        """
        return await answered(
            request, body.questions, decisions.decisions(decider, body)
        )

    @app.post(SYSTEM_ONE)
    async def typesafe_system_one(
        request: Request,
        body: Annotated[SystemOneRequest, Body(openapi_examples=system_one.EXAMPLES)],
    ) -> Response:
        """Answer a request of TypeSafe's System One API (reference of Jev 1.13).

        Options of any number of tokens, and any number of them. `confidence` is
        (n p - 1) / (n - 1), of n options whose most likely has probability p. Answers
        also have `lower`, `upper`, `certain`, `label_mass`, `unresolved` and
        `truncated`, as in `/v1/classify`; bounds are those of `noul`, and of the most
        likely option.
        Errors are `{"detail": {"message": …, "error_type": …}}`.
        """
        return await answered(
            request, body.questions, system_one.system_one(decider, body)
        )

    async def answered(
        request: Request, questions: Sized, work: Coroutine[Any, Any, dict[str, Any]]
    ) -> Response:
        content = await _while_connected(request, work)
        request.scope["classify.n_texts"] = len(questions)
        return json_response({"model": service.model_name, **content})


def _add_watching(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> Response:
        """Answer as long as the process lives."""
        return json_response({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """Answer with 503 if the engine is dead, or failed in the last seconds."""
        if service.is_ready:
            return json_response({"status": "ready"})
        return refusal("/ready", 503, "The engine has stopped or is failing.")

    @app.get("/metrics")
    async def figures() -> Response:
        """Return figures for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error.response(path_of(request.scope))

    @app.exception_handler(InputError)
    async def cannot_be_used(request: Request, error: InputError) -> Response:
        return refusal(path_of(request.scope), 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        return refusal(path_of(request.scope), 422, validation_sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        path = path_of(request.scope)
        return refusal(path, error.status_code, f"{error.detail}.", error.headers)


async def _while_connected(
    request: Request, work: Coroutine[Any, Any, _Answer]
) -> _Answer:
    """Return the answer, or drop the work when the client leaves."""
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise ClientLeftError
    finally:
        answering.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
