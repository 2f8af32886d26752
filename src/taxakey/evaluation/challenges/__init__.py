"""Files for challenges: written from predictions, checked as the organisers would, and scored by their metrics."""
