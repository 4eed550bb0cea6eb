"""Serving: requests, schedulers and caches (no code yet; the decode grid needs none)."""
