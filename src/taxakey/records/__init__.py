"""What was observed: tables of records, their names and their split; no torch."""
