"""Code that experiments share: variants trained for equal compute, and the tables of the published pages."""
