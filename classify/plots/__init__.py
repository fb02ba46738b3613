"""Curves drawn with matplotlib, and their common code."""
