"""Metrics: plain functions of arrays, numpy only. Definitions in SPEC.md section 5; intervals in `intervals`."""
