"""Blocks that know nothing of Genie: layers, attention, transformers, patches, quantizers, convolutions."""
