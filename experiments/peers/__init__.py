"""Ablations that are not in the paper, one file each."""
