"""``genie-gym bench``: a machine playing and training worlds, beside its own matrix rate, all in one run."""
