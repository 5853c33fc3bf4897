"""What `evaluate --neighbours` left in the runs of a study, for the report."""

import base64
from typing import NamedTuple

from gan.neighbours import read_neighbours, sentences
from study.folder import StudyFolder
from study.study import Study


class Looked(NamedTuple):
    """A run for which `evaluate --neighbours` was called."""

    name: str  # ROW/seed_N
    lines: list[str]
    picture: str  # PNG, base64


def nearest_images(study: Study, folder: StudyFolder) -> list[Looked]:
    """The runs that have such numbers and their picture, in the order of the study."""
    found = []
    for job in study.jobs:
        if near := read_neighbours(folder.run(job)):
            record, picture = near
            found.append(Looked(job.name, sentences(record), base64.b64encode(picture).decode()))
    return found
