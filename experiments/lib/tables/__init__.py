"""Tables of README.md, docs/results.md and the model card as Markdown, each from one file of results."""
