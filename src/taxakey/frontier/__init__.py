"""Accuracy against cost: what several models reach, what each costs, and which of them nothing else beats."""
