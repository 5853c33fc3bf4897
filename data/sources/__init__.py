"""Where images come from: folders, zips, CIFAR, LSUN, packs, generated shapes."""
