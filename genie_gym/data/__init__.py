"""Frames in and out: Procgen games, HDF5 shards, video files, and the clips that training draws from them."""
