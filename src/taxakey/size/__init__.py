"""What a model costs before it is trained: parameters, bytes, multiply-adds, peak memory, and how many classes fit."""
