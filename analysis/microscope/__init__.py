"""Figures and report of microscope runs: one DRAM channel up close."""
