"""The instruments, gathered: what a generator does to position, borders and high frequencies."""

from gan.probe.measurement import Probe, measure, probe, summary, training_instruments, write_record

__all__ = ["Probe", "measure", "probe", "summary", "training_instruments", "write_record"]
