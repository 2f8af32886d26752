"""GBIF's download service: a prepared download by its key or DOI, and one order for many taxa."""
