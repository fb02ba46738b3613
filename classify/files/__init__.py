"""Files of settings and results: read with clear errors, written atomically."""
