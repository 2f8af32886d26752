"""Losses, one a file. Each takes logits [B, K] with -inf for what can't be chosen, and labels [B]; each returns a mean."""
