"""What holds for every test: no network, and draws that CI can repeat."""

import os

from hypothesis import settings

# Set before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

# A first forward pass outlasts Hypothesis's deadline; a red CI must stay red.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
