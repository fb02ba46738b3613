"""Kinds of questions: what is said of a text beyond its likeliest label."""
