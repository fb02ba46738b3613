"""Questions about a text, and the further results that their kinds give."""
