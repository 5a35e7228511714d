"""Training: one loop for every model, and the paper's two phases."""
