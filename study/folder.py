"""The folder of a study, which records what was trained with which settings; and its export, a copy without weights."""

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import yaml

from data.checksums import KEY, sealed, whole
from data.files import write_atomically
from gan import config as gan_config
from gan.run_directory import RunFiles, begun
from gan.settings import ConfigError, Tree
from study.study import CURVE_KEYS, Config, Job, Study, StudyError, folder_name

STUDY = "study.yaml"
RECORD = "record.json"  # of a run: settings, scores with their cards, curve, cost
OF_RUN = ("record", "probe", "result")  # the JSON files of a run that an export keeps, all in runs.json
FAILED = "failed.txt"  # of a run that ended without a record: its last line of output
ADOPTED = ".study.yaml"  # what the runs read: editing study.yaml while they run affects the next `compare`, not this one
RUNS = "runs.json"  # of an exported study: what its finished runs left
TUNING = "tuning"  # of a study that tunes: the folder of that study
GRIDS = "grids.zip"  # of an exported study: the sample grids that its report shows
REAL = "real"  # among these: real images
EXPORTED = ("costs.json", "table.md", "table.csv", "table.json", "report.html")
EXPORTED += ("curves.png", "tradeoff.png", "grids.png")
RECORDED = {"label", "seed", "task", "length", "scoring", "config", "model", "status", "why", "curve"}  # that every record has


class StudyFolder:
    """study.yaml, runs/ROW/seed_N (run directories with a record.json each), and the tables made of them.

    An exported one has the files of its runs in runs.json and grids.zip instead. It can be gone on with: new runs get folders
    under runs/, and what lies there is taken before what was exported.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def run(self, job: Job) -> Path:
        """The run directory; of a row that an earlier version named otherwise, where that one put it."""
        runs = self.path / "runs"
        row = runs / job.row.slug
        if not row.is_dir() and runs.is_dir():
            row = next((other for other in runs.iterdir() if folder_name(other.name) == job.row.slug), row)
        return row / f"seed_{job.seed}"

    @cached_property
    def _exported(self) -> dict[str, dict]:
        """{ROW/seed_N: {"record": ..., "probe": ..., "result": ...}} of runs.json; {} without one."""
        file = self.path / RUNS
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text())
            found = {_run_name(r["run"]): {name: r[name] for name in OF_RUN if name in r} for r in content["runs"]}
            if whole(content) and all(whole(record) for left in found.values() for record in left.values()):
                return found
            raise ValueError("a record isn't the one that was written")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StudyError(f"{file} is damaged: put the exported file back, or delete it to train its runs again") from None

    @cached_property
    def _exported_grids(self) -> dict[str, bytes]:
        """{ROW/seed_N: PNG} of grids.zip; {} without one."""
        file = self.path / GRIDS
        if not file.is_file():
            return {}
        try:
            with zipfile.ZipFile(file) as grids:
                return {_run_name(name.removesuffix(".png")): grids.read(name) for name in grids.namelist()}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise StudyError(f"{file} is damaged: put the exported file back, or delete it, and no samples are shown") from None

    def _has_own(self, job: Job) -> bool:
        return (self.run(job) / RECORD).is_file()

    def place(self, job: Job) -> str:
        """Where its record lies, for a message."""
        return str(self.run(job) / RECORD) if self._has_own(job) else f"the run {job.name} in {self.path / RUNS}"

    def record(self, job: Job) -> dict | None:
        """What a finished or diverged run left; None if it isn't done. StudyError for what can't be read."""
        try:
            record = self._json(job, "record")
            if record is None:
                return None
            if record.keys() >= RECORDED and (record["status"] == "diverged" or record["last"]["scores"]):
                return record
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            pass
        raise StudyError(f"{self.place(job)} is damaged or of another version; delete it, and the run is scored or trained again")

    def _json(self, job: Job, name: str) -> dict | None:
        """record, probe or result .json of a run. ValueError where it isn't JSON."""
        file = self.run(job) / f"{name}.json"
        if file.is_file():
            record = json.loads(file.read_text())
            if not whole(record):
                raise ValueError(f"{file} isn't what was written")
            return record
        return None if self._has_own(job) else self._exported.get(job.name, {}).get(name)

    def finished(self, study: Study, job: Job) -> dict | None:
        """The run's record, if it is of the study's length and scored in the study's way; else None."""
        record = self.record(job)
        fits = record and record["length"] == study.config(job).length and study.scoring.is_that_of(record["scoring"])
        return record if fits else None

    def done(self, study: Study, job: Job) -> bool:
        return self.finished(study, job) is not None

    def adopt(self, study: Study) -> None:
        """Write study.yaml. Rows, seeds, scoring and more steps may have changed since; settings of what is trained may not."""
        self.require_unchanged(study)
        self.path.mkdir(parents=True, exist_ok=True)
        text = _yaml(study)
        write_atomically(self.path / STUDY, text)
        write_atomically(self.path / ADOPTED, text)

    def adopt_if_new(self, study: Study) -> None:
        """Write study.yaml where there is none yet, so that the folder is a study from its first run on, while it tunes too."""
        if not (self.path / STUDY).is_file():
            self.adopt(study)

    def require_unchanged(self, study: Study) -> None:
        """StudyError if a run in the folder, finished or begun, was trained with other settings than the study now has."""
        for job in study.jobs:
            record = self.record(job)
            if record and record["task"] != study.task:
                raise StudyError(f"{self.run(job)} holds a run of a study of task {record['task']}; choose another --out")
            old = self._trained_with(study, job, record)
            if old and (changes := _changes(old, study.config(job).keeping(old))):
                raise StudyError(
                    f"{self.run(job)} was trained with other settings ({'; '.join(changes)}); put the study back, "
                    "or start the changed one in another --out"
                )

    def require_as_adopted(self, study: Study, adopted: Study, job: Job) -> None:
        """StudyError if the study that the folder goes by trains this run's row otherwise, or scores runs otherwise."""
        row = next((row for row in adopted.rows if row.label == job.row.label), None)
        if row is None:
            return
        old, new = (s.config(Job(r, s.seeds[0])).replace({"train.seed": job.seed}) for s, r in ((adopted, row), (study, job.row)))
        changes = _changes(old, new.keeping(old))
        if old.length != new.length and not changes:
            changes = [f"{'train.steps' if study.task == 'gan' else 'train.epochs'}: {old.length} -> {new.length}"]
        before, after = (s.scoring.protocol() for s in (adopted, study))
        changes += [f"scoring.{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]
        if changes:
            raise StudyError(
                f"the study in {self.path} has other settings ({'; '.join(changes)}), so {job.name} would be of another study than "
                "its neighbours: leave the change out, or give the same command without --only, which changes the whole study"
            )

    def _trained_with(self, study: Study, job: Job, record: dict | None) -> Config | None:
        """The settings of a run that has a record, or has begun; None for any other."""
        if record is None:
            file = RunFiles(self.run(job)).settings_file
            return study.kind.load_saved(file) if file.is_file() and begun(file.parent) else None
        try:
            return study.kind.load_saved(record["config"])
        except ConfigError as error:
            raise StudyError(
                f"{self.place(job)} is of another version ({error}); delete it, and the run is scored (or trained) again"
            ) from None

    def require_weights(self, study: Study, jobs: list[Job]) -> None:
        """StudyError if a finished run would have to be trained from step 0 again, since its weights were left elsewhere."""
        for job in jobs:
            record = self.record(job)
            if record and record["status"] == "finished" and not self.done(study, job) and not self._has_weights(self.run(job)):
                raise StudyError(
                    f"{self.run(job)} has scores but no weights (an exported study leaves them behind), so it can't be scored in "
                    "another way or trained further here: go on in the folder where it was trained, put steps and scoring back, "
                    f"or delete {self.place(job)} to train it from step 0"
                )

    @staticmethod
    def _has_weights(run: Path) -> bool:
        return any(RunFiles(run).checkpoints.glob("*.pt"))

    def note_failure(self, job: Job, said: str | None) -> None:
        """Store the last line of output of a failed run, for the table; None removes it, since the run has succeeded."""
        file = self.run(job) / FAILED
        with contextlib.suppress(OSError):  # a full disk was said already
            if said:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, said.encode(errors="replace"))
            else:
                file.unlink()

    def failure(self, job: Job) -> str | None:
        """The last line of output of a run that failed; None for any other."""
        file = self.run(job) / FAILED
        return file.read_bytes().decode(errors="replace") if file.is_file() else None

    def probe(self, job: Job) -> dict:
        """The run's record of the instruments; without one that can be read, the headline numbers in its own record; else {}."""
        with contextlib.suppress(ValueError, AttributeError):
            if found := dict(self._json(job, "probe") or {}):
                return found
        return {"numbers": numbers} if (numbers := (self.record(job) or {}).get("probe")) else {}

    def grid(self, job: Job) -> bytes | None:
        """The run's samples of fixed latents, as a PNG; None where there are none."""
        file = self.run(job) / "grid.png"
        return file.read_bytes() if file.is_file() else self._exported_grids.get(job.name)

    def real(self, study: Study) -> bytes | None:
        """The first of the real images that the runs were compared with, a grid as that of the samples; None without any, and where
        rows have images of their own."""
        if len({repr(study.config(job).dataset.arguments) for job in study.jobs}) > 1:
            return None
        files = (self.run(job) / name for name in ("real.png", "samples/real.png") for job in study.jobs)
        return next((file.read_bytes() for file in files if file.is_file()), self._exported_grids.get(REAL))

    def shown_grids(self, study: Study) -> dict[str, int]:
        """{row: seed} of the pictures that a report shows: the first seed that all rows with any have, else each one's first."""
        seeds: dict[str, list[int]] = {}
        for job in study.jobs:
            if (self.run(job) / "grid.png").is_file() or job.name in self._exported_grids:
                seeds.setdefault(job.row.label, []).append(job.seed)
        shared = next((seed for seed in study.seeds if all(seed in own for own in seeds.values())), None)
        return {label: own[0] if shared is None else shared for label, own in seeds.items()}

    def kept_grids(self, study: Study) -> bytes | None:
        """grids.png, where samples that were exported with it are left in no other file, so that it can't be drawn anew."""
        file, row_of = self.path / "grids.png", lambda name: name.rpartition("/")[0]
        finished = {row_of(name) for name, left in self._exported.items() if left.get("record", {}).get("status") == "finished"}
        pictured = {row_of(name) for name in self._exported_grids} | {job.row.slug for job in study.jobs if self.grid(job)}
        lost = {row.slug for row in study.rows} & finished - pictured
        return file.read_bytes() if lost and file.is_file() else None

    def export(self, study: Study, target: Path, overwrite: bool = False) -> int:
        """Write tables, report and what the finished runs of a study left, but no weights, to another folder; how many runs.

        That folder is light, and a study folder too: `compare` goes on with it, on another machine if need be. StudyError where it
        holds runs that this study hasn't, unless told to overwrite.
        """
        there = {job.name for job in study.jobs if self.record(job)}
        kept = _records_below(target) if target.resolve() == self.path.resolve() else set()  # which an export leaves where they are
        lost = sorted((StudyFolder(target)._exported.keys() | _records_below(target)) - there - kept)
        if lost and not overwrite:
            raise StudyError(f"{target} holds {lost[0]}, which this study hasn't: name another folder, or say --overwrite")
        target.mkdir(parents=True, exist_ok=True)
        tuned = 0
        if study.tune and (self.path / TUNING).is_dir():
            tuned = StudyFolder(self.path / TUNING).export(study.tuning(), target / TUNING, overwrite)
        write_atomically(target / STUDY, _yaml(study))
        if (target / ADOPTED).is_file():  # what single runs there go by
            write_atomically(target / ADOPTED, _yaml(study))
        for name in EXPORTED:
            if (self.path / name).is_file():
                write_atomically(target / name, (self.path / name).read_bytes())
            elif lost:  # of the study that is overwritten
                (target / name).unlink(missing_ok=True)
        jobs = [job for job in study.jobs if self.record(job)]
        runs = [{"run": job.name, **self._left(job)} for job in jobs]
        shown = self.shown_grids(study)
        grids = {job.name: self.grid(job) for job in jobs if job.seed == shown.get(job.row.label)}
        if grids:
            grids[REAL] = self.real(study)
            write_atomically(target / GRIDS, _zipped({f"{name}.png": png for name, png in grids.items() if png}))
        elif lost:
            (target / GRIDS).unlink(missing_ok=True)
        lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)  # one run per line: differences stay readable
        seal = sealed({"runs": runs})[KEY]
        write_atomically(target / RUNS, f'{{"runs": [\n{lines}\n], "{KEY}": "{seal}"}}\n'.encode())
        _remove_exported(target, jobs)
        return len(jobs) + tuned

    def _left(self, job: Job) -> dict[str, dict]:
        """The run's record and, where it has them, its probe and result."""
        found = {}
        for name in OF_RUN:
            with contextlib.suppress(ValueError):  # a torn probe.json is as none
                found[name] = self._json(job, name)
        return {name: content for name, content in found.items() if content is not None}

    def left_out(self, study: Study) -> list[str]:
        """Finished runs in the folder that the study no longer names: kept, but in no table."""
        return sorted((_records_below(self.path) | self._exported.keys()) - {job.name for job in study.jobs})


def _records_below(path: Path) -> set[str]:
    """The runs, ROW/seed_N, that have a record in a study's folder."""
    return {_run_name(file.parent.relative_to(path / "runs").as_posix()) for file in path.glob(f"runs/*/*/{RECORD}")}


def _run_name(stored: str) -> str:
    """ROW/seed_N as it is called now, of what an earlier version may have called otherwise."""
    row, slash, seed = stored.rpartition("/")
    return f"{folder_name(row)}{slash}{seed}"


def _changes(old: Tree, new: Tree) -> list[str]:
    """'key: old -> new' of what may not change in a run that was trained; its scores in training are drawn beside others."""
    curve = old.changes(new, set(gan_config.KEYS) - CURVE_KEYS) if isinstance(new, gan_config.Config) else []
    return old.difference(new) + curve


def _yaml(study: Study) -> bytes:
    return yaml.safe_dump(study.dump(), sort_keys=False).encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    """A zip without dates, so that the same files make the same bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return archive.getvalue()


def _remove_exported(target: Path, jobs: Iterable[Job]) -> None:
    """Remove the files of runs that an earlier version exported to this folder one by one, and which are in runs.json now."""
    folder = StudyFolder(target)
    for job in jobs:
        run = folder.run(job)
        if not run.is_dir() or folder._has_weights(run):
            continue
        for name in (*(f"{name}.json" for name in OF_RUN), "grid.png", "real.png"):
            (run / name).unlink(missing_ok=True)
        for directory in (run, run.parent, run.parent.parent):
            with contextlib.suppress(OSError):  # it holds something else
                directory.rmdir()
