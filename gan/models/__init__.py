"""The networks. Importing this registers the built-in families."""

from gan.models import dcgan, r3, resnet
from gan.models.families import FAMILIES, Family, Layers, register

__all__ = ["FAMILIES", "Family", "Layers", "dcgan", "r3", "register", "resnet"]
