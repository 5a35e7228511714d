"""Curation (Genie, appendix B): from raw videos to a manifest of the clips that are worth training on."""
