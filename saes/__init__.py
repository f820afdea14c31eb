"""Sparse autoencoders: reasoning features to load, score and steer."""
