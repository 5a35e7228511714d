"""Kernels in C++ for what a played world does on a CPU beside matrix products: compiled where they run."""
