"""From rows to pictures to batches."""
