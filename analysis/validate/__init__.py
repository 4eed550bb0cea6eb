"""Predictions of measured tables: what a benchmark timed, run on the simulated device, and scored."""
