"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

from gan.allocator import keep_freed_memory
from tests.helpers import ROOT

FAULTS = """
import resource, sys
from gan.allocator import keep_freed_memory
assert keep_freed_memory() == (sys.argv[1] == "kept")
import torch
torch.set_num_threads(1)
for step in range(60):
    if step == 40:  # by then the heap has found its shape
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(6 * 2**20) for _ in range(4)]  # 24 MiB each
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64", reason="PyTorch allocates by glibc on Linux, x86, alone"
)
def test_freed_memory_is_not_fetched_again(monkeypatch):
    for name in MALLOC:
        monkeypatch.delenv(name, raising=False)
    faults = {}
    for how in ("kept", "returned"):
        command = [sys.executable, "-c", FAULTS, how]
        faults[how] = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")  # glibc's own, which it adapts differently from process to process
    assert faults["kept"] < 0.1 * faults["returned"]


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")]
)
def test_settings_of_the_users_own_stand(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()
