"""Kernels in C++ for all that takes time in a world played on a CPU: compiled where they run."""
