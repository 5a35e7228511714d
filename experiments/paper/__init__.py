"""Tables and figures of the Genie paper at a smaller size, one file each; figure 15 is ``agents.benchmark``."""
