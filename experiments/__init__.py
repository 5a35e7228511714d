"""The paper's tables and figures, and the shipped checkpoint, one command each."""
