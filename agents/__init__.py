"""Agents that learn from a world's latent actions and in it: the paper's appendix E and what follows from it.

Runs from a clone, as ``python -m agents.NAME``: it is not part of the installed package.
"""
