"""What is installed, what an engine runs, and the results of its self-test."""

import platform

from classify.distribution import VERSION
from classify.engines.kinds import installed_packages
from classify.engines.protocol import Engine, Finding, with_defaults
from classify.engines.registry import kinds

__all__ = ["describe", "environment", "findings"]


def environment() -> dict[str, str]:
    """Return interpreter, packages and devices, in words, by name; loads torch."""
    from classify.engines.devices import device_names

    packages = [f"classify {VERSION}"]
    for kind in kinds():
        found = installed_packages(kind.packages)
        packages += [f"{name} {number}" for name, number in found.items()]
        if not found and kind.packages:
            packages.append(f"no {kind.packages[0]}")
    return {
        "Python": f"{platform.python_version()}, {platform.platform(terse=True)}, "
        f"{platform.machine()}",
        "Packages": ", ".join(packages),
        "Devices": "; ".join(device_names()),
    }


def describe(engine: Engine) -> dict[str, str]:
    """Return a description of what an engine runs and how much fits, by name."""
    described = with_defaults(engine).describe()
    return {"shows": "exact log-probabilities of every token", **described}


def findings(engine: Engine) -> list[Finding]:
    """Compare what an engine answers with what it must; nothing for a fake one."""
    return with_defaults(engine).findings()
