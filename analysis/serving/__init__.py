"""Figures and the report of serving runs."""
