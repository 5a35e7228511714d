"""A world in the hands of a person."""
