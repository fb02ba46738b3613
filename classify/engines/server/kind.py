"""The engine over a server before it is loaded."""

from classify.engines.kinds import (
    NO_SPECULATION,
    EngineKind,
    EngineOption,
    Requirement,
)
from classify.parameters import at_least, instance_of, listed, one_of, optional

__all__ = ["HTTPX", "KIND"]

HTTPX = Requirement("httpx", "server", "The server engine needs httpx")

# vllm shows any token; the others list the most likely ones, and auto may be any.
APIS = ("auto", "vllm", "llamacpp", "ollama", "openai")
_TEXT = optional(instance_of("a string", str))
_CHOSEN = (
    "{setting} is {value!r}, but the server has chosen its own already: leave "
    "{setting} out, or start the server with it."
)

KIND = EngineKind(
    name="server",
    title="a server",
    engine="classify.engines.server.engine:ServerEngine",
    models="a folder or a hub id",
    options=(
        EngineOption(
            "url",
            _TEXT,
            "A running server: vLLM, llama.cpp, Ollama, LM Studio, such as "
            "http://localhost:8000; --model names its tokenizer.",
            changes_values=False,
            selects=True,
            on_command_line=True,
            metavar="URL",
        ),
        EngineOption(
            "api_key_env",
            _TEXT,
            "Environment variable that holds the server's API key.",
            changes_values=False,
            on_command_line=True,
        ),
        EngineOption(
            "served_model_name",
            _TEXT,
            "Which of the server's models to ask.",
            changes_values=False,
        ),
        EngineOption(
            "api",
            one_of(*APIS),
            f"API of the server: {listed(APIS)}.",
            on_command_line=True,
        ),
        EngineOption(
            "top_logprobs",
            optional(at_least(1, whole=True)),
            "How many of the most likely tokens to ask for, if the server shows "
            "no others.",
        ),
        EngineOption(
            "timeout",
            at_least(1e-3),
            "Maximum seconds to wait for an answer.",
            changes_values=False,
        ),
        EngineOption(
            "retries",
            at_least(0, whole=True),
            "Maximum number of retries of a failed request.",
            changes_values=False,
        ),
        EngineOption(
            "patience",
            at_least(0),
            "Seconds to keep retrying while the server is unavailable or busy.",
            changes_values=False,
        ),
        EngineOption(
            "self_test",
            instance_of("a boolean", bool),
            "Whether to test the server's answers before the first text.",
            changes_values=False,
        ),
    ),
    refused={"dtype": _CHOSEN, "device": _CHOSEN, "speculation": NO_SPECULATION},
    may_list=lambda options: options.get("api") != "vllm",
    runs_here=False,
    packages=("httpx",),
    requires=HTTPX,
)
