"""The name under which this package is published, and its version."""

__all__ = ["NAME", "VERSION"]

# `classify` on package indexes is another project's.
NAME = "classify-lm"
VERSION = "0.1.0.dev0"  # pyproject.toml takes it from here
