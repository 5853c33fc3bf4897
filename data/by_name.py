"""Data sets that a command takes by name alone, `cifar10` or `cifar10:test`, since each has one size and needs no settings."""

BY_NAME = ("cifar10", "cifar100", "shapes")
