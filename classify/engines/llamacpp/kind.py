"""The llamacpp engine before it is loaded."""

from classify.engines.kinds import (
    NO_SPECULATION,
    EngineKind,
    EngineOption,
    Requirement,
)
from classify.parameters import at_least, optional

__all__ = ["KIND", "XLLAMACPP"]

XLLAMACPP = Requirement("xllamacpp", "llamacpp", "The llamacpp engine needs xllamacpp")

_FILE = (
    "{which} reads one file, and {setting} is {value!r}, which is for folders and the "
    "hub: leave {setting} out."
)


KIND = EngineKind(
    name="llamacpp",
    title="llama.cpp",
    engine="classify.engines.llamacpp.engine:LlamaCppEngine",
    models="a GGUF file",
    file_suffix=".gguf",
    tokenizer="classify.engines.llamacpp.vocabulary:load_vocabulary",
    options=(
        EngineOption(
            "n_ctx",
            optional(at_least(1, whole=True)),
            "Size of the KV cache in tokens; also the maximum prompt length.",
            changes_values=False,
        ),
        EngineOption(
            "n_threads",
            optional(at_least(1, whole=True)),
            "CPU threads; by default OMP_NUM_THREADS, or one for each CPU.",
            changes_values=False,
        ),
    ),
    refused={
        "dtype": (
            "{which} computes in the number format of the GGUF file, and {setting} is "
            "{value!r}: leave {setting} out, or use a file in another format."
        ),
        "trust_remote_code": _FILE,
        "revision": _FILE,
        "speculation": NO_SPECULATION,
    },
    packages=("xllamacpp",),
    requires=XLLAMACPP,
)
