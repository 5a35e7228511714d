"""Metrics of a world model, each reported next to its baselines."""
