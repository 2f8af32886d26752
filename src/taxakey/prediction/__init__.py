"""From a model and pictures to answers."""
