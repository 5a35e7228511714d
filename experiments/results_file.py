"""Results as JSON, with all that is needed to get them again: the same as for ``genie-gym bench``."""

from genie_gym.bench.results import ROOT, write_results

__all__ = ["ROOT", "write_results"]
