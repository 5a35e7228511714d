"""What the experiments share: variants trained for equal compute, and the tables of the pages."""
