"""Scenarios: what a person asks for, read from TOML with every error at once."""
