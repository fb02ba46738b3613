"""Tracking inside vLLM's workers.

`TrackingExtension` is a worker extension, vLLM's documented way to add methods to its
workers (``worker_extension_cls``): it needs no plug-in that every vLLM process on the
machine would load, works on every platform's worker, and touches nothing outside the
one ``LLM`` that asks for it. `install_tracking` turns the worker's sampler and
rejection sampler into subclasses that run the stock code, and write the tracked values
in addition to what it returns.
"""

from typing import Any

from classify.engines.vllm.liveness import end_with_starter

__all__ = ["TrackingExtension"]


class TrackingExtension:
    """Mixed into the worker class by vLLM; `model_runner` is the worker's."""

    model_runner: Any

    def install_tracking(self) -> str:
        """Make this worker track; return which model runner it has, "v1" or "v2".

        Raises
        ------
        RuntimeError
            The runner is none that we know.
        """
        # Each is imported where it is needed: a vLLM without the other runner works.
        if self.tracking_runner() == "v1":
            from classify.engines.vllm.runner_v1 import install_v1

            return install_v1(self.model_runner)
        from classify.engines.vllm.runner_v2 import install_v2

        return install_v2(self.model_runner)

    def tracking_runner(self) -> str:
        """Return "v1" or "v2", which of vLLM's model runners this worker has.

        Raises
        ------
        RuntimeError
            The runner is none that we know.
        """
        runner = self.model_runner
        if hasattr(runner, "input_batch"):
            return "v1"
        if hasattr(runner, "req_states"):
            return "v2"
        kind = f"{type(runner).__module__}.{type(runner).__qualname__}"
        raise RuntimeError(
            f"The model runner {kind} is not supported: tracked log-probabilities "
            "need vLLM's V1 or V2 runner."
        )


# vLLM imports this module in a worker before that takes any memory.
end_with_starter()
