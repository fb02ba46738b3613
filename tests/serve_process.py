"""A server in a process of its own: ``python -m tests.serve_process``, over a hash.

It prints its address when it is ready. A text that says so takes as long as a file of
the name that follows is missing.
"""

import sys
import time
from pathlib import Path

from classify.engines import FakeEngine
from classify.serve import make_app
from classify.serve.running import listen, run
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import make
from tests.toy_model import hashed_logprobs


def main():
    next_logprobs = hashed_logprobs(len(byte_level()))

    def slowly(token_ids):
        said = byte_level().decode(token_ids)
        if "wait for " in said:
            path = Path(said.partition("wait for ")[2].partition("\n")[0])
            path.with_suffix(".begun").touch()
            while not path.exists():
                time.sleep(0.01)
        return next_logprobs(token_ids)

    engine = FakeEngine.from_function(slowly, len(byte_level()))
    app = make_app(make(engine=engine))
    run(
        app,
        listen("127.0.0.1", 0),
        timeout=60,
        started=lambda url: print(url, flush=True),
    )
    print("stopped", flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
