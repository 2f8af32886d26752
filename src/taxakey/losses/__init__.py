"""Losses, one a file. Each is given a head's answer to a batch and returns a number for each image (`decision.Loss`)."""
