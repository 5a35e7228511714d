"""One recipe for games of several kinds: labels, held actions and roll-outs of a small world of each."""
