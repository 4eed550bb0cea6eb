"""Operators and kernels: the narrow waist between models and hardware.

A model lowers to operators, an operator lowers to a `Kernel`: a grid of CTAs with bytes and FLOP
and no time. Hardware runs kernels and never sees a layer.
"""
