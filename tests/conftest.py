"""What holds for every test: no network, draws that CI can repeat, few vLLM starts."""

import gc
import os
import signal

import pytest
from hypothesis import settings

# Set before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
# GiB that vLLM on a CPU takes for keys and values; it would take half the machine.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
# What `classify` does for the processes of a vLLM on a CPU, for vLLM in this process.
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
# Ray would let its workers wait for all other programs, for minutes on busy cores, and
# kill them when others take nearly all of the memory.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has one core: threads that share it wait for each other. numba and vLLM
    # set other numbers of threads, for all that computes in their processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

# A shell may have begun this in the background, where Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A first forward pass outlasts Hypothesis's deadline; a red CI must stay red.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def self_checks(tmp_path_factory):
    """Keep the user's cache out of it; what one test has checked, others need not."""
    os.environ["CLASSIFY_SELF_CHECKS"] = str(tmp_path_factory.mktemp("checks"))


@pytest.fixture(scope="session")
def vllm_engines(tmp_path_factory):
    """Give vLLM engines by name (`tests.vllm_engines`); one is alive at a time."""
    from tests.vllm_engines import OneEngine

    engines = OneEngine(tmp_path_factory.mktemp("models"))
    yield engines
    engines.close()


@pytest.fixture(scope="session")
def vllm_forks():
    """Give the process that forks commands and servers with vLLM."""
    from tests.vllm_forks import VllmForks

    forks = VllmForks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def terminals():
    """Give the process that forks commands with the demo model onto terminals."""
    pytest.importorskip("pty", reason="needs pseudo-terminals")
    from tests.terminals import Commands

    with Commands() as commands:
        yield commands


@pytest.fixture(scope="session")
def killed_jobs():
    """Give the process that forks jobs that are killed."""
    from tests.killed_jobs import Forks

    with Forks() as forks:
        yield forks


@pytest.fixture
def vllm_engine(request, vllm_engines):
    """The vLLM engine that a test names: ``parametrize(…, indirect=True)``."""
    return vllm_engines(request.param)


def pytest_collection_modifyitems(items):
    """Put the tests of each vLLM engine together, at the end, and mark them as slow.

    Workers begin with what takes longest, so that they end at the same time.
    """

    def engine_of(item):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        # The contract calls an engine by the name of its reference.
        name = parameters.get("vllm_engine", parameters.get("reference", ""))
        # Those that kill it come last.
        return (name if name.startswith("vllm") else "", "killed" in parameters)

    for item in items:
        if engine_of(item)[0]:
            item.add_marker(pytest.mark.slow)
    items.sort(key=engine_of)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    slow = {scope_of(item.nodeid) for item in items if item.get_closest_marker("slow")}

    def turn(item):
        scope = scope_of(item.nodeid)
        return 0 if scope.startswith("vllm") else 1 if scope in slow else 2

    items.sort(key=turn)


def pytest_collection_finish():
    """Keep Python's collector from looking through what stays until the end."""
    gc.collect()
    gc.freeze()


def scope_of(nodeid):
    """Return what a test shares with those that run in the same worker."""
    file = nodeid.partition("::")[0]
    # With vLLM in processes of its own only, which are forked from one that imports it.
    apart = ("test_cli_vllm.py", "test_server_vllm.py", "test_vllm_interrupts.py")
    if "vllm, served" in nodeid or file.endswith(apart):
        return "vllm, forked"
    # Where a cluster of Ray runs, another test would find it.
    if file.endswith(
        ("test_job_ray.py", "test_job_spread.py", "test_cli_threshold.py")
    ):
        return "ray"
    # With one process for all commands on terminals, one for all jobs that are killed.
    forked = ("test_terminal.py", "test_cli_predict.py")
    if file.endswith((*forked, "test_job_server.py", "test_job_kills.py")):
        return "terminals"
    # With engines in the worker's own process, which imports vLLM for a while.
    return "vllm" if "vllm" in nodeid else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run what shares something in one worker, the others a file at a time."""
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerForAScope(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of(nodeid)

    # By the number of their tests, it would be.
    config.option.loadscopereorder = False
    return OneWorkerForAScope(config, log)
