"""Self-checks that passed, remembered between processes.

Whether a tree mask is honoured is a question to the code of an architecture, not to its
weights. So a check that passed is not run again for another model of the same class and
configuration, with the same versions, dtype and device. A check that failed is always
run again, and so is what depends on the weights.
"""

import hashlib
import json
import os
import sys
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch

from classify.distribution import VERSION
from classify.engines.kinds import installed_packages
from classify.files.atomic import atomic_file

__all__ = ["Check", "PassedChecks", "identity"]

# Where to remember: a folder, or "off".
_VARIABLE = "CLASSIFY_SELF_CHECKS"
_FILE_NAME = "self-checks.json"
_FORMAT = "classify self-checks 1"
# Models whose checks are remembered; of those beyond it the oldest are forgotten.
_MAX_MODELS = 200
# What computes a model, or decides how.
_PACKAGES = (
    "torch",
    "transformers",
    "causal-conv1d",
    "flash-attn",
    "flash-linear-attention",
    "kernels",
    "mamba-ssm",
)
# Parts of a configuration that say where a model is from, and not what it computes.
_NAMES = {"_name_or_path", "architectures", "transformers_version"}

_writing = Lock()


class Check(NamedTuple):
    """A comparison of a way of reading with plain forward passes."""

    way: str
    n_nodes: int = 0
    length: int = 0
    across: bool = False

    def implies(self, other: "Check") -> bool:
        """Whether the other need not be run if this one passed."""
        longer = self.length >= other.length and not self.across
        return self == other or (longer and self == other._replace(length=self.length))


class PassedChecks:
    """The checks that models of one kind have passed.

    Damage and folders that cannot be written cost the time of the checks, nothing else.

    Parameters
    ----------
    kind : str
        A digest of `identity`.
    file : Path, optional
        Without, nothing is remembered.
    """

    def __init__(self, kind: str, file: Path | None) -> None:
        self._kind, self._file = kind, file
        self._passed = set(_read(file).get(kind, ()))

    @classmethod
    def of(cls, model: Any) -> "PassedChecks":
        """Return those of models like this one; of a damaged model, none."""
        folder = _folder()
        # Looking at all weights takes time: not where nothing is remembered.
        if folder is None or not _is_finite(model):
            return cls("", None)
        described = json.dumps(identity(model), default=str).encode()
        return cls(hashlib.sha256(described).hexdigest()[:32], folder / _FILE_NAME)

    def imply(self, check: Check) -> bool:
        """Whether a check need not be run."""
        return any(passed.implies(check) for passed in self._passed)

    def add(self, check: Check) -> None:
        """Remember that a check passed."""
        self._passed.add(check)
        if self._file is None:
            return
        with _writing:
            models = _read(self._file)
            # The newest stand last.
            ours = {*self._passed, *models.pop(self._kind, ())}
            models[self._kind] = sorted(ours)
            _write(self._file, dict(list(models.items())[-_MAX_MODELS:]))


def identity(model: Any) -> dict[str, Any]:
    """Return everything but the weights that the result of a check may depend on."""
    config = model.config
    device = next(model.parameters()).device
    return {
        "classify": VERSION,
        "code": _digest_of_code(),
        "packages": installed_packages(_PACKAGES),
        "model": _name(type(model)),
        # Adapters and quantization put modules of their own in place of others.
        "modules": sorted({_name(type(module)) for module in model.modules()}),
        "config": {k: v for k, v in config.to_dict().items() if k not in _NAMES},
        "attention": str(getattr(config, "_attn_implementation", None)),
        "dtypes": sorted({str(weights.dtype) for weights in model.parameters()}),
        "device": _device(device),
        "precision": torch.get_float32_matmul_precision(),
    }


def _is_finite(model: Any) -> bool:
    """Whether no weight is NaN or infinite, which attention may hide."""
    return all(
        bool(weights.detach().sum(dtype=torch.float32).isfinite())
        for weights in model.parameters()
        if weights.is_floating_point()
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return device.type


@cache
def _digest_of_code() -> str:
    """The version of the checks, and of the ways of reading that they check."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _folder() -> Path | None:
    given = os.environ.get(_VARIABLE)
    if given:
        return None if given == "off" else Path(given)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        variable, usual = "LOCALAPPDATA", home / "AppData" / "Local"
    elif sys.platform == "darwin":
        variable, usual = "", home / "Library" / "Caches"
    else:
        variable, usual = "XDG_CACHE_HOME", home / ".cache"
    caches = Path(os.environ.get(variable, ""))
    return (caches if caches.is_absolute() else usual) / "classify"


def _read(file: Path | None) -> dict[str, list[Check]]:
    """Return the checks by kind of model; none where the file cannot be used."""
    if file is None:
        return {}
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != _FORMAT:
            return {}
        return {
            str(kind): [_check(*fields) for fields in checks]
            for kind, checks in content["passed"].items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def _check(way: str, n_nodes: int, length: int, across: bool) -> Check:  # noqa: FBT001
    check = Check(way, n_nodes, length, across)
    if [type(field) for field in check] != [str, int, int, bool]:
        raise TypeError
    return check


def _write(file: Path, models: dict[str, list[Check]]) -> None:
    content = json.dumps({"format": _FORMAT, "passed": models})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file, is_synced=False) as out:
            out.write(content.encode())
    except OSError:
        return
