"""`probe`: all instruments applied to a generator, for position, borders and high frequencies."""

from gan.probe.measurement import Probe, measure, probe, summary, training_instruments, write_record

__all__ = ["Probe", "measure", "probe", "summary", "training_instruments", "write_record"]
