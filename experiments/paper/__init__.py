"""The tables and figures of the Genie paper at our size, one file each; figure 15 is ``agents.benchmark``."""
