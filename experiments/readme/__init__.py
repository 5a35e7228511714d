"""Sections of README.md and of the model card, as Markdown, each from one file of results."""
