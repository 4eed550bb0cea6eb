"""Figures, reports and validation: reads results, simulates only through the API of `sim`."""
