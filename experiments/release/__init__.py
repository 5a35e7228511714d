"""How the shipped checkpoint is made and measured."""
