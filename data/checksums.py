"""sha256 checksums of files that are read back: JSON records hold theirs in a field, zips (such as checkpoints) in the comment.

Without one a flipped bit in a number would go unnoticed. Older files have none and are accepted as they are.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path

KEY = "sha256"

END = b"PK\5\6"  # of a zip: 20 bytes that begin so, the length of the comment in two bytes, the comment
MARK = b"sha256 "
COMMENT = len(MARK) + 64
PIECE = 2**22  # bytes that are hashed at a time

# --- records -----------------------------------------------------------------------------------------------------------------


def sealed(record: dict, key: str = KEY) -> dict:
    """The record with a sha256 of all the rest of it, as the value of `key`."""
    rest = {name: value for name, value in record.items() if name != key}
    return {**rest, key: _digest(rest)}


def whole(record: dict, key: str = KEY) -> bool:
    """Whether a record that was read is the one that was sealed. One without a checksum, as those of before, is taken as it is."""
    return key not in record or sealed(record, key)[key] == record[key]


def _digest(record: dict) -> str:
    read_back = json.loads(json.dumps(record))  # as it will be read: keys are text, tuples are lists
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()


# --- zips --------------------------------------------------------------------------------------------------------------------


def sealed_zip(buffer: io.BytesIO) -> memoryview:
    """Add to a zip without a comment the sha256 of all its bytes as its comment. Changes and returns the buffer."""
    content = buffer.getbuffer()
    if bytes(content[-22:-18]) != END or bytes(content[-2:]) != b"\0\0":
        raise ValueError("no zip without a comment")
    comment = MARK + hashlib.sha256(content[:-2]).hexdigest().encode()
    content.release()  # else the buffer can't grow
    buffer.seek(-2, io.SEEK_END)
    buffer.write(len(comment).to_bytes(2, "little") + comment)
    return buffer.getbuffer()


def whole_zip(path: Path) -> bool:
    """Whether a zip agrees with the sha256 in its comment or, without one, each file in it with its CRC-32.

    True for a file that is no zip: its reader will say so. Raises OSError; zipfile.BadZipFile and others for a truncated zip.
    """
    with open(path, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - COMMENT - 22))
        tail = file.read()
        if tail.startswith(END) and tail[22:].startswith(MARK):
            file.seek(0)
            digest, left = hashlib.sha256(), size - COMMENT - 2
            while left:
                digest.update(piece := file.read(min(PIECE, left)))
                left -= len(piece)
            return digest.hexdigest().encode() == tail[-64:]
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None
