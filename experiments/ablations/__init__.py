"""Questions of our own about the model: one file for each."""
