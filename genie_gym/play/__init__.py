"""Playing a world by hand: a page in the browser with its server, a window, and trajectories that can be replayed."""
