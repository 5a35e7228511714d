"""Building blocks that do not depend on Genie: layers, attention, transformers, patches, quantizers, convolutions."""
