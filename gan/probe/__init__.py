"""The instruments, gathered: what a generator does to position, borders and high frequencies."""

from gan.probe.measurement import Probe, measure, probe, read_record, summary, training_instruments, write_record

__all__ = ["Probe", "measure", "probe", "read_record", "summary", "training_instruments", "write_record"]
