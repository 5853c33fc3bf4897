"""The networks. Importing this registers the families that come along."""

from gan.models import dcgan, resnet
from gan.models.families import FAMILIES, Family, Layers, register

__all__ = ["FAMILIES", "Family", "Layers", "dcgan", "register", "resnet"]
