"""Runs a scenario: wires model, engine and device, and collects results."""
