"""The device: SimPy processes of a GPU that run kernels and charge every picosecond."""
