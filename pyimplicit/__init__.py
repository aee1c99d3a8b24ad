"""Sampling, distance and interpolation kernels for implicit 3D reconstruction."""
