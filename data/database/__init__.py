"""LMDB files: read by position, indexed by key, written all or nothing."""
