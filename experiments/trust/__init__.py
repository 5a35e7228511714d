"""What the package promises about strangers, measured: hostile players of the page's server."""
