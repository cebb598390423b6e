"""Summaries, the only thing that may leave the plant."""
