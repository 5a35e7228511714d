"""``genie-gym bench``: speed of playing and training a world, relative to the machine's matrix multiplication."""
