"""The transformers engine before it is loaded."""

from classify.engines.kinds import (
    NO_SPECULATION,
    EngineKind,
    EngineOption,
    Verdict,
)
from classify.parameters import at_least, instance_of, optional

__all__ = ["KIND"]


KIND = EngineKind(
    name="transformers",
    title="transformers",
    engine="classify.engines.transformers.engine:TransformersEngine",
    models="a folder, a hub id or a model object",
    takes_objects=True,
    options=(
        EngineOption(
            "attn_implementation",
            optional(instance_of("a string", str)),
            "Which attention of transformers to use.",
        ),
        EngineOption(
            "cache_bytes",
            optional(at_least(0, whole=True)),
            "Bytes of KV cache to keep between reads.",
            changes_values=False,
        ),
    ),
    refused={"speculation": NO_SPECULATION},
    uses_gpus=True,
    packages=("torch", "transformers"),
    suits=lambda *_: Verdict(is_taken=True, reason=""),
)
