"""Measurements of what docs/trust.md promises."""
