"""Agents that learn from a world's latent actions (the paper's appendix E), and agents that learn inside a world.

Runs from a clone, as ``python -m agents.NAME``: it is not part of the installed package.
"""
