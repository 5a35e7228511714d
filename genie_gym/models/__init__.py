"""The video tokenizer, the latent action model, the dynamics model, and the world they make together."""
