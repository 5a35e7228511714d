"""Results on disk: where they come from, how they are written, and experiments that resume."""
