"""From the rows of a table to prompts, to scores, and to the columns of a result."""
