"""Compiled wavelet scattering."""
