"""Serving: requests, schedulers, caches, and what a run leaves behind."""
