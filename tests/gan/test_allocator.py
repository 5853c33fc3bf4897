"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

from gan.allocator import keep_freed_memory

FAULTS = """
import resource, sys
from gan.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
torch.set_num_threads(1)
for step in range(60):
    if step == 40:  # by then the heap has found its shape
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20)  # 40 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_freed_memory_is_not_fetched_again(monkeypatch):
    for name in ("TRIM", "MMAP"):
        monkeypatch.delenv(f"MALLOC_{name}_THRESHOLD_", raising=False)
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("returned", "kept")
    }
    assert faults["kept"] < 0.1 * faults["returned"]


def test_a_setting_of_the_users_own_stands(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()
