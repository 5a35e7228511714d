"""Who plays what the shipped world learns from."""

RANDOM_PLAY = ("sticky=0.5", "random=0.1")
PLAYER_WEIGHT = 0.4
"""Share of the games that a trained player plays."""
