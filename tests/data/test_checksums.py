"""Records with a checksum: whole ones, changed ones, and those of before there was any."""

import json

import pytest

from data.checksums import sealed, whole

RECORD = {"step": 3, "value": 0.1, "interval": (1, 2.5), "by": {1: "a", 10: "b", 2: float("nan")}}


def test_a_record_that_was_written_and_read_is_whole():
    assert whole(json.loads(json.dumps(sealed(RECORD), indent=2)))
    assert sealed(sealed(RECORD)) == sealed(RECORD)


@pytest.mark.parametrize("key, value", [("step", 4), ("value", 0.10000000000000002), ("interval", [1, 2]), ("new", 1)])
def test_a_changed_record_is_not(key, value):
    assert not whole({**json.loads(json.dumps(sealed(RECORD))), key: value})


def test_a_record_that_has_a_sha256_of_something_else_keeps_its_own_under_another_name():
    record = sealed({"sha256": "of a file"}, "card_sha256")
    assert record["sha256"] == "of a file" and whole(record, "card_sha256") and not whole({**record, "sha256": "b"}, "card_sha256")


def test_a_record_without_a_checksum_is_taken_as_it_is():
    assert whole({"step": 3})
