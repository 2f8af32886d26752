"""Names: delivered ones, checklists, and what the ones are in the others."""
