"""Play of a world by people: a page in the browser with its server, a window, and trajectories to replay."""
