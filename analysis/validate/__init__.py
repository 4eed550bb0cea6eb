"""Predictions of measured tables: what a benchmark timed, simulated and scored."""
