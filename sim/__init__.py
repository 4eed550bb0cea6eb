"""tokenstall: where every picosecond and byte goes when an LLM is served."""
