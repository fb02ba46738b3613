"""Questions about a text, and what their kinds say beyond its likeliest label."""
