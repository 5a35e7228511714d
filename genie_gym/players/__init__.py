"""Players that choose the actions of recorded games."""
