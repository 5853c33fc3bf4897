"""Generative adversarial networks built from even-sized convolution kernels with symmetric padding."""
