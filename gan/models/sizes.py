"""How a side of R pixels is made of a seed map and doublings: R = side * 2^doublings."""


def seed_map(resolution: int) -> tuple[int, int]:
    """(side, doublings): R halved as long as it stays whole and has 4 pixels or more.

    32, 64, 128, 256 -> 4; 48, 96, 192 -> 6, as Miyato et al. 2018 start from for STL-10; 40, 80, 160 -> 5; 24 -> 6, and so on.
    """
    doublings = 0
    while resolution % 2 == 0 and resolution >= 8:
        resolution, doublings = resolution // 2, doublings + 1
    return resolution, doublings


def halvings(resolution: int) -> int:
    """How often R can be halved before it is odd: what averages 2x2 pixels would leave out a row then."""
    return (resolution & -resolution).bit_length() - 1
