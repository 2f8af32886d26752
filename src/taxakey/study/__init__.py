"""One question, several recipes: variants of a recipe trained alike, measured on the same photographs, in one table.

plan.py     the file: a base recipe, what each variant changes, seeds, what was published
run.py      every variant and seed through embedding, training and prediction, resumable
figures.py  means over seeds, differences from the reference with paired intervals
tables.py   the table as Markdown, CSV and JSON, and its plot
"""
