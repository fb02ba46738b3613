"""`python -m classify`: the command line, where its script is not on the path."""

from classify.cli import main

__all__: list[str] = []

main()
