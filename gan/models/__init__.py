"""The networks: `resolve` fills in what a family was published with, `build` makes its two networks from settings."""

from gan.models.families import build, build_discriminator, build_generator, resolve, resolve_to_train

__all__ = ["build", "build_discriminator", "build_generator", "resolve", "resolve_to_train"]
