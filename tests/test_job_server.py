"""Jobs over a server: whatever is killed meanwhile, nothing is lost or done twice."""

import contextlib
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from classify import ZeroShotClassifier
from classify.demo import model_folder
from classify.engines import clear_engines
from classify.jobs import Classification, RowColumns, open_table, run_job
from tests.killed_jobs import run_over_server
from tests.listing_servers import LmStudioServer, OllamaServer
from tests.serving import NEVER, SmallServer
from tests.toy_jobs import csv_of
from tests.toy_model import hashed_logprobs

ROOT = Path(__file__).parents[1]
VOCAB = 4096
LABELS = ["billing", "shipping", "account access"]


@pytest.fixture(autouse=True)
def _fresh():
    clear_engines()
    yield
    clear_engines()


def _of_text(kind):
    def make(*model, **options):
        tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        return kind(*model, fast=tokenizer, **options)

    return make


SERVERS = {
    "vllm": SmallServer,
    "ollama": _of_text(OllamaServer),
    "openai": _of_text(LmStudioServer),
}
each_server = pytest.mark.parametrize("small", SERVERS, indirect=True)


@pytest.fixture
def small(request):
    """Start small servers, whose answers are a hash of the question."""
    started = []
    kind = SERVERS[getattr(request, "param", "vllm")]

    def start(**options):
        server = kind(hashed_logprobs(VOCAB), VOCAB, **options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def texts_in(path, n_rows):
    return csv_of(
        path, [[f"Where is parcel {n % (n_rows - 20)}?"] for n in range(n_rows)]
    )


def job_over(url):
    classifier = ZeroShotClassifier(
        LABELS,
        str(model_folder()),
        engine="server",
        engine_options={"url": url, "self_test": False},
    )
    return Classification(
        classifier=classifier, columns=RowColumns(text="text"), probabilities=True
    )


def run(source, output, url, *, part_rows=40):
    """Run a job over a server; what `run_over_server` does, in this process."""
    table = open_table(source)
    return run_job(job_over(url), table, output, part_rows=part_rows)


def in_the_middle(n_requests, n_times):
    """Return at which requests to do something, of so many that there are."""
    return [n_requests * at // (n_times + 1) for at in range(1, n_times + 1)]


# ----------------------------------------------------------------- the server is killed


@each_server
def test_a_server_killed_and_started_again_changes_no_byte(small, tmp_path):
    source, server = texts_in(tmp_path / "in.csv", 200), small()
    run(source, tmp_path / "whole.csv", server.url)
    n_requests = len(server.requests)
    begun, kill = [], threading.Event()

    def trouble(number):
        if not kill.is_set():
            begun.append(number)
            if len(begun) in in_the_middle(n_requests, 4):
                kill.set()
        return NEVER if kill.is_set() else 0.02  # so that some are always under way

    other = small(trouble=trouble)
    n_kills = 0

    def kill_and_restart():
        nonlocal n_kills
        while kill.wait() and not over:
            other.stop()
            n_kills += 1
            kill.clear()
            time.sleep(0.1)  # while it is asked in vain
            other.start()

    over = []
    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    try:
        outcome = run(source, tmp_path / "out.csv", other.url)
    finally:
        over.append(True)
        kill.set()
        killer.join()
    assert n_kills == 4
    assert outcome.is_complete
    # What was under way when it was killed was asked again, and nothing else.
    assert n_requests < len(other.requests) <= n_requests + 4 * 64
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


# ----------------------------------------------------------------- the client is killed


@each_server
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_client_killed_and_started_again_changes_no_byte(
    small, killed_jobs, tmp_path
):
    source, server = texts_in(tmp_path / "in.csv", 400), small()
    run(source, tmp_path / "whole.csv", server.url)
    n_requests = len(server.requests)
    wanted, rng = 0, random.Random(3)
    # It waits to be killed where it is meant to be.
    slow = small(trouble=lambda n: 0.005 if n < wanted else NEVER)
    output = tmp_path / "out.csv"
    n_kills = 0
    while not output.exists():
        # A part is a tenth of them, and the texts of the next are in flight.
        wanted = len(slow.requests) + rng.randint(n_requests // 8, n_requests // 4)
        child = killed_jobs.start(run_over_server, source, output, slow.url)
        while len(slow.requests) <= wanted and Path(f"/proc/{child}").exists():
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):  # it has just finished
            os.kill(child, signal.SIGKILL)
        n_kills += killed_jobs.ended() == -signal.SIGKILL
        assert n_kills < 100
    assert n_kills >= 4
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("in.csv", "out.csv", "whole.csv")
    ]


# --------------------------------------------------------------------------- by command


def test_a_file_by_command(small, terminals, tmp_path):
    source, server = texts_in(tmp_path / "in.csv", 50), small()
    said = tmp_path / "said"
    done = terminals.run(
        *("predict", source, "--url", f"{server.url}/v1", "--model", model_folder()),
        *("--labels", ",".join(LABELS), "--output", tmp_path / "out.csv"),
        "--probabilities",
        folder=ROOT,
        stderr=str(said),
    )
    assert done.code == 0, said.read_text()
    assert "Engine server, context of 4095 tokens.\n" in said.read_text()
    run(source, tmp_path / "whole.csv", server.url)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_doctor_of_a_server_fits_a_terminal(small, terminals, tmp_path):
    asked = ("doctor", "--url", f"{small().url}/v1", "--model", model_folder())
    done = terminals.run(*asked, folder=ROOT, stdout=str(tmp_path / "shown"))
    assert done.code == 0, done.sent
    shown = (tmp_path / "shown").read_text()
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert re.search(r"^Engine +server, loaded in [\d.]+ s$", shown, re.MULTILINE)
