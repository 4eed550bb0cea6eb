"""Runs a scenario: wires model, engine and device, and collects results."""

from sim.run.execute import execute

__all__ = ["execute"]
