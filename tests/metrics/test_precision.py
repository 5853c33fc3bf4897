"""Which precision suits a device; TF32 is off while scores and pictures are made, and afterwards as it was."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from metrics import precision
from metrics.precision import allow_tf32, emulated, ieee_float32, native_bf16, settled
from tests.helpers import ROOT


def switches():
    backends = torch.backends
    return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark, backends.cudnn.deterministic


@pytest.fixture(autouse=True)
def restored():
    before = switches()
    yield
    allow_tf32(*before[:2])
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before[2:]


@pytest.mark.parametrize(("products", "convolutions"), [(True, True), (False, False), (False, True), (True, False)])
def test_it_is_off_within_and_as_before_afterwards(products, convolutions):
    allow_tf32(products, convolutions)
    torch.backends.cudnn.benchmark = True
    before = switches()
    with pytest.raises(RuntimeError, match="whatever ends it"), ieee_float32():
        assert switches() == (False, False, False, True) and torch.get_float32_matmul_precision() == "highest"
        raise RuntimeError("whatever ends it")
    assert switches() == before == (products, convolutions, True, before[3])
    assert torch.get_float32_matmul_precision() == ("high" if products else "highest")


NEWER = """
import torch
from gan.fusing import tf32_convolutions
from metrics.precision import ieee_float32
leaves = lambda: [s.fp32_precision for s in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)]
{said}
before, products = leaves(), torch.get_float32_matmul_precision() if "medium" in {said!r} else None
assert tf32_convolutions()
with ieee_float32():
    assert "tf32" not in leaves() and not tf32_convolutions()
assert leaves() == before, (before, leaves())
assert products is None or torch.get_float32_matmul_precision() == products == "medium"
"""


@pytest.mark.parametrize(
    "said",
    [
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cudnn.fp32_precision = 'tf32'; torch.backends.cuda.matmul.fp32_precision = 'ieee'",
        "torch.set_float32_matmul_precision('medium')",
        "pass",
    ],
)
def test_it_is_off_whatever_switch_had_set_it(quick_python, said):
    done = subprocess.run([quick_python, "-c", NEWER.format(said=said)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "native"),
    [
        ("", False), ("avx2", False), ("avx2_vnni_2", False), ("avx512_core", False), ("avx512_core_vnni", False), ("any", False),
        ("avx512_core_bf16", True), ("avx512_core_fp16", True), ("avx512_core_amx", True), ("avx10_1_512_amx_fp16", True),
    ],
)  # fmt: skip
def test_bf16_is_native_where_onednn_has_code_made_for_it(kind, native, monkeypatch):
    monkeypatch.setattr(precision, "onednn_kind", lambda dtype: kind)
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    assert native_bf16("cpu") == native
    assert settled("auto", "cpu") == ("bf16" if native else "fp32")
    assert emulated("bf16", "cpu") == (not native) and not emulated("fp32", "cpu")


def test_arm_is_asked_for_its_bf16_extension(monkeypatch):
    monkeypatch.setattr(precision.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(precision, "onednn_kind", lambda dtype: pytest.fail("x86's way of asking"))
    for answer in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda answer=answer: answer)
        assert native_bf16("cpu") == answer


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_a_gpu_is_asked_for_its_compute_capability(capability, native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_bf16("cuda:1") == native
    assert not emulated("bf16", "cuda")


def test_only_auto_depends_on_the_device():
    assert [settled(asked, "meta") for asked in ("fp32", "tf32", "bf16", "auto")] == ["fp32", "tf32", "bf16", "fp32"]


def test_without_onednn_it_is_fp32(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert settled("auto", "cpu") == "fp32"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
def test_onednn_names_its_code_and_heeds_the_cap():
    """In a process capped to AVX2, as a machine without bf16 is rehearsed; nothing of what the library says reaches stdout."""
    code = "import torch; from metrics import precision as p; print([p.onednn_kind(torch.float32), p.native_bf16('cpu')])"
    told = lambda **env: (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout
    )
    assert told(ONEDNN_MAX_CPU_ISA="AVX2") == "['avx2', False]\n"


def test_asking_onednn_needs_no_stdout(monkeypatch):
    def closed(descriptor):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(precision.os, "dup", closed)
    assert precision.onednn_kind.__wrapped__(torch.float32) == ""
