"""Programs that make and measure the shipped checkpoint."""
