"""Files of settings and results: read with their mistakes named, written as a whole."""
