"""The folder of a study, which remembers what has been trained with which settings."""

import contextlib
import json
from pathlib import Path

import yaml

from data.files import write_atomically
from gan import config as gan_config
from gan.classification import config as classification_config
from gan.config import ConfigError, Tree
from gan.run_directory import begun
from study.study import OF_CURVES, Job, Study, StudyError, config_of, jobs_of, settings_of

RECORD = "record.json"  # of a run: settings, scores with their cards, curve, cost
FAILED = "failed.txt"  # of a run that ended without a record: the last line that it said
ADOPTED = ".study.yaml"  # what the runs read: whoever edits study.yaml while they run changes the next `compare`, not this one
LIGHT = (
    "study.yaml",
    "costs.json",
    "table.md",
    "table.csv",
    "table.json",
    "report.html",
    "curves.png",
    "tradeoff.png",
    "grids.png",
)
LIGHT_OF_RUN = (RECORD, "result.json", "probe.json")
KEYS = {"label", "seed", "task", "length", "scoring", "config", "model", "status", "why", "curve"}  # that every record has


class StudyFolder:
    """study.yaml, runs/ROW/seed_N (run directories with a record.json each), and the tables made of them."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def run(self, job: Job) -> Path:
        return self.path / "runs" / job.name

    def result(self, job: Job) -> dict | None:
        """What a finished or diverged run left; None if it isn't done. StudyError for a file that can't be read."""
        file = self.run(job) / RECORD
        if not file.is_file():
            return None
        try:
            result = json.loads(file.read_text())
            if result.keys() >= KEYS and (result["status"] == "diverged" or result["last"]["scores"]):
                return result
        except (ValueError, AttributeError, KeyError, TypeError):
            pass
        raise StudyError(f"{file} is damaged or of another version; delete it, and the run is scored or trained again")

    def done(self, study: Study, job: Job) -> bool:
        """Whether the run has its result, at the study's steps and scored in the study's way."""
        result = self.result(job)
        if result is None:
            return False
        return result["length"] == config_of(study, job).length and result["scoring"] == study.scoring.model_dump()

    def adopt(self, study: Study) -> None:
        """Write study.yaml. Rows, seeds, scoring and more steps may have changed since; settings of what is trained may not."""
        self.require_unchanged(study)
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(study.model_dump(), sort_keys=False).encode()
        write_atomically(self.path / "study.yaml", text)
        write_atomically(self.path / ADOPTED, text)

    def require_unchanged(self, study: Study) -> None:
        """StudyError if a run in the folder, finished or begun, was trained with other settings than the study now has."""
        settings = settings_of(study)
        for job in jobs_of(study):
            result = self.result(job)
            if result and result["task"] != study.task:
                raise StudyError(f"{self.run(job)} holds a run of a study of task {result['task']}; choose another --out")
            old = self._finished(job, settings, result) if result else self._begun(job, settings)
            if old and (changes := old.difference(new := config_of(study, job)) + curve_changes(old, new)):
                raise StudyError(
                    f"{self.run(job)} was trained with other settings ({'; '.join(changes)}); put the study back, "
                    "or start the changed one in another --out"
                )

    def require_weights(self, study: Study, jobs: list[Job]) -> None:
        """StudyError if a finished run would have to be trained from step 0 again, since its weights were left elsewhere."""
        for job in jobs:
            result = self.result(job)
            if result and result["status"] == "finished" and not self.done(study, job) and not self._has_weights(job):
                raise StudyError(
                    f"{self.run(job)} has scores but no weights (an exported study leaves them behind), so it can't be scored in "
                    "another way or trained further here: go on in the folder where it was trained, put steps and scoring back, "
                    f"or delete its {RECORD} to train it from step 0"
                )

    def _has_weights(self, job: Job) -> bool:
        return any((self.run(job) / "checkpoints").glob("*.pt"))

    def _begun(self, job: Job, settings: type[Tree]) -> gan_config.Config | classification_config.Config | None:
        file = self.run(job) / "config.yaml"
        return settings.load(file) if file.is_file() and begun(file.parent) else None

    def _finished(self, job: Job, settings: type[Tree], result: dict) -> gan_config.Config | classification_config.Config:
        try:
            return settings.load(result["config"])
        except ConfigError as error:
            file = self.run(job) / RECORD
            raise StudyError(
                f"{file} is of another version ({error}); delete it, and the run is scored (or trained) again"
            ) from None

    def note_failure(self, job: Job, said: str | None) -> None:
        """Keep what a run that failed said last, for the table; None: forget it, since it is tried again."""
        file = self.run(job) / FAILED
        with contextlib.suppress(OSError):  # a full disk was said already
            if said:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(said)
            else:
                file.unlink()

    def failure(self, job: Job) -> str | None:
        """What a run that failed said last; None for any other."""
        file = self.run(job) / FAILED
        return file.read_text() if file.is_file() else None

    def floor(self, job: Job) -> dict[str, float]:
        """What the instruments say of real images, as the run's `probe` measured them; {} for a run that was not probed."""
        with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):
            return json.loads((self.run(job) / "probe.json").read_text()).get("floor", {})
        return {}

    def export(self, study: Study, target: Path) -> int:
        """Copy tables, report and what the finished runs of a study left, but no weights, to another folder; how many runs.

        That folder is light, and a study folder too: `compare` goes on with it, on another machine if need be.
        """
        jobs = [job for job in jobs_of(study) if self.result(job)]
        files = [self.path / name for name in LIGHT] + [self.run(job) / name for job in jobs for name in LIGHT_OF_RUN]
        shown = self.shown_grids(study)
        files += [self.run(job) / "grid.png" for job in jobs if job.seed == shown.get(job.row.label)]
        for file in files:
            if file.is_file():
                to = target / file.relative_to(self.path)
                to.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(to, file.read_bytes())
        return len(jobs)

    def shown_grids(self, study: Study) -> dict[str, int]:
        """{row: seed} of the pictures that a report shows: the first seed that all rows with any have, else each one's first."""
        seeds: dict[str, list[int]] = {}
        for job in jobs_of(study):
            if (self.run(job) / "grid.png").is_file():
                seeds.setdefault(job.row.label, []).append(job.seed)
        shared = next((seed for seed in study.seeds if all(seed in own for own in seeds.values())), None)
        return {label: own[0] if shared is None else shared for label, own in seeds.items()}

    def left_out(self, study: Study) -> list[str]:
        """Results in the folder that the study no longer names: kept, but in no table."""
        named = {job.name for job in jobs_of(study)}
        found = [f.parent.relative_to(self.path / "runs").as_posix() for f in self.path.glob(f"runs/*/*/{RECORD}")]
        return sorted(set(found) - named)


def curve_changes(old: gan_config.Config | classification_config.Config, new) -> list[str]:
    """'key: old -> new' of what the scores taken in training depend on: a study's curves are drawn on one axis."""
    if not isinstance(new, gan_config.Config):
        return []
    return old.changes(new, set(gan_config.KEYS) - OF_CURVES)
