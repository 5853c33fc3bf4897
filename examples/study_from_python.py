"""A study from Python: two kernels and two seeds, trained, scored alike, and put into one table.

PYTHONPATH=. python examples/study_from_python.py [STEPS] [FOLDER] [SEED ...]
"""

import sys
from pathlib import Path

from study.report import write_report
from study.run import compare
from study.study import Study

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 400
FOLDER = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/study_from_python")

study = Study.model_validate(
    {
        "title": "Do 2×2 kernels learn shapes as 3×3 do?",
        "base": {"dataset": {"name": "shapes"}, "generator": {"upsampling": "nearest", "width": 8}, "discriminator": {"width": 8}},
        "settings": {"train.steps": STEPS, "train.batch_size": 16, "train.checkpoint_every": STEPS, "train.sample_every": STEPS},
        "axes": {"generator.kernel": ["c3", "c2sp"]},
        "baseline": {"generator.kernel": "c3"},
        "seeds": [int(seed) for seed in sys.argv[3:]] or [0, 1],
        "scoring": {"samples": min(1000, 20 * STEPS), "real": min(1000, 20 * STEPS)},
    }
)

if __name__ == "__main__":  # runs are processes of their own
    table, failed = compare(study.settled(FOLDER), FOLDER, 1, "here", {}, lambda text, colour=None: print(text), progress=False)
    print(table)
    print(f"report: {FOLDER / 'report.html'}; failed: {failed or 'none'}")
    assert write_report(study.settled(FOLDER), FOLDER) == table  # whenever the table is wanted again
