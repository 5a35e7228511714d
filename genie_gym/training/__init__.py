"""Training: one loop for every model, and the phases of a preset."""
