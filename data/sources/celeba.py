"""`celeba` and `celeba_hq`: faces, as the published archives hold them, unpacked or not, or as a folder or pack that a user names.

Deep Learning Face Attributes in the Wild (Liu et al., 2015); Progressive Growing of GANs (Karras et al., 2018).
"""

from data.images import DataError
from data.sources.lsun import LsunSource
from data.sources.opening import kind_of
from data.sources.pack import PackSource
from data.sources.registry import Request, register
from data.sources.source import Source

PUBLISHED = {  # what the archives are called
    # 202,599 JPEGs of 178×218; the centre square is 178×178. Last, where torchvision puts them.
    "celeba": ("img_align_celeba", "img_align_celeba.zip", "celeba/img_align_celeba", "celeba/img_align_celeba.zip"),
    "celeba_hq": ("celeba_hq", "celeba_hq.zip", "CelebA-HQ-img"),  # 30,000 squares of 1024×1024 or 256×256
}


@register("celeba")
@register("celeba_hq")
def celeba(request: Request) -> Source:
    """One of the published archives at the request's root; or the root itself, if the user named it or it is called like one."""
    root, published = request.root, PUBLISHED[request.name]
    place = next((root / name for name in published if (root / name).exists()), root)
    kind = kind_of(place)
    named = request.path or place != root or root.name in {name.rpartition("/")[2] for name in published} or kind is PackSource
    if not named or not place.exists() or kind is LsunSource:
        wanted = f"to the directory that holds {' or '.join(published)}, or to a pack of it"
        raise DataError(f"there is no {request.name} at {root}: set dataset.path, or GAN_DATA, {wanted}")
    return kind(place, request.stored_split)
