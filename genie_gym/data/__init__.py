"""Frames in and out: Procgen, HDF5 shards, videos, and the clips that training draws from them."""
