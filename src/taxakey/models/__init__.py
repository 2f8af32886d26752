"""Networks: tensors in, tensors out; nothing here knows of files, names of species or training."""
