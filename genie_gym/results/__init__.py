"""Results on disk: JSON files with their provenance, and experiments that resume."""
