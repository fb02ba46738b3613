"""Curves drawn with matplotlib, and what they have in common."""
