"""Whether the parts of a dataset leak, and what else makes its figures doubtful."""
