"""What is installed, what an engine runs, and whether it answers right."""

import platform
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from classify.distribution import VERSION
from classify.engines.choice import installed_vllm
from classify.engines.protocol import Engine

if TYPE_CHECKING:
    from classify.engines.server import ServerEngine
    from classify.engines.server.selftest import SelfTestCase
    from classify.engines.transformers import TransformersEngine
    from classify.engines.vllm.engine import VllmEngine

__all__ = ["Finding", "describe", "environment", "findings"]


class _Described(Protocol):
    def describe(self) -> dict[str, str]: ...


class Finding(NamedTuple):
    """What a self-test found out; `is_fault` where the engine should not be used."""

    name: str
    detail: str
    is_fault: bool


def environment() -> dict[str, str]:
    """Return interpreter, packages and devices, in words, by name; loads torch."""
    from classify.engines.transformers.devices import device_names

    packages = [f"classify {VERSION}"]
    packages += [f"{name} {_version(name)}" for name in _PACKAGES]
    vllm = installed_vllm()
    packages.append("no vllm" if vllm is None else f"vllm {vllm}")
    return {
        "Python": f"{platform.python_version()}, {platform.platform(terse=True)}, "
        f"{platform.machine()}",
        "Packages": ", ".join(packages),
        "Devices": "; ".join(device_names()),
    }


def describe(engine: Engine) -> dict[str, str]:
    """Return what an engine runs and how much fits, in words, by name."""
    if not hasattr(engine, "describe"):
        return {"context": f"{engine.context_length:,} tokens"}
    return cast(_Described, engine).describe()


def findings(engine: Engine) -> list[Finding]:
    """Compare what an engine answers with what it must; nothing for a fake one."""
    if engine.name == "vllm":
        from classify.engines.vllm.selftest import self_test

        cases = self_test(cast("VllmEngine", engine))
        return [
            Finding(
                f"tracked values, {case.name}",
                case.problem or f"off by at most {case.difference:.1e} nats",
                bool(case.problem),
            )
            for case in cases
        ]
    if engine.name == "server":
        return [
            Finding(case.name, _said(case), bool(case.problem))
            for case in cast("ServerEngine", engine).self_test()
        ]
    if engine.name == "transformers":
        # A way that is wrong for a model is found out on loading, and not taken.
        faults = cast("TransformersEngine", engine).faults_of_reading()
        return [
            Finding(
                f"{mode} reads against plain forward passes",
                "the same" if fault is None else f"not taken: {fault}",
                is_fault=False,
            )
            for mode, fault in faults.items()
        ]
    return []


_PACKAGES = ("torch", "transformers")


def _said(case: "SelfTestCase") -> str:
    if case.problem or case.harm:
        return case.problem or case.harm
    if isnan(case.difference):
        return "right"
    return f"off by at most {case.difference:.1e} nats"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
