"""How good a world is, always beside what it must beat."""
