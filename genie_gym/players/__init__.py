"""Players: what chooses actions in a game that is recorded."""
