"""Records that are read back, as JSON, with a checksum of their own: a flipped bit in a number would otherwise be believed."""

import hashlib
import json

KEY = "sha256"


def sealed(record: dict) -> dict:
    """The record with a `sha256` of all the rest of it."""
    rest = {key: value for key, value in record.items() if key != KEY}
    return {**rest, KEY: _digest(rest)}


def whole(record: dict) -> bool:
    """Whether a record that was read is the one that was sealed. One without a `sha256`, as those of before, is taken as it is."""
    return KEY not in record or sealed(record)[KEY] == record[KEY]


def _digest(record: dict) -> str:
    read_back = json.loads(json.dumps(record))  # as it will be read: keys are text, tuples are lists
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
