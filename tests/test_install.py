"""`pip install` of this repository: `even_kernels`, the layers alone, which need torch and clash with nobody's packages."""

import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.helpers import ROOT

USE = """
import importlib.util, torch, even_kernels
assert all(importlib.util.find_spec(name) is None for name in ("gan", "data", "metrics", "study", "cli")), "installed too much"
layer = even_kernels.SymmetricConv2d(8, 16, kernel_size=2)
model = even_kernels.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1)), "c4sp")
assert layer(torch.zeros(1, 8, 5, 5)).shape == (1, 16, 5, 5) and type(model[0]).__module__ == "even_kernels.kernels"
fused = even_kernels.FusedSequential(torch.nn.Upsample(scale_factor=2), even_kernels.conv2d("c2sp", 8, 8))
assert fused(torch.ones(1, 8, 4, 4)).shape == (1, 8, 8, 8)
try:
    even_kernels.load
except AttributeError as error:
    assert "layers alone; load comes with a checkout" in str(error), error
else:
    raise AssertionError
print(even_kernels.__file__)
"""


def python(program, code, folder, **environment):
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, "-c", code], cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_the_layers_alone_and_works_outside_the_checkout(tmp_path):
    pytest.importorskip("setuptools")
    # Of a copy: setuptools writes its files beside the source.
    code = (
        "import pathlib, shutil, setuptools.build_meta as build\n"
        f"root = pathlib.Path({str(ROOT)!r})\n"
        "shutil.copytree(root / 'gan', 'gan', ignore=shutil.ignore_patterns('*.safetensors', '__pycache__'))\n"
        "for name in ('pyproject.toml', 'README.md', 'requirements.txt'): shutil.copy(root / name, name)\n"
        "print('wheel:' + build.build_wheel('.'))"
    )
    wheel = tmp_path / python(sys.executable, code, tmp_path).rpartition("wheel:")[2]
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA")]
        archive.extractall(tmp_path / "installed")
    layers = ("__init__", "fast_padding", "fusing", "kernels", "padding", "phases", "resampling", "transposed")
    assert files == {f"even_kernels/{name}.py" for name in layers}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert needed == ["Requires-Dist: torch>=2.11"]
    found = python(sys.executable, USE, tmp_path / "installed", PYTHONPATH=str(tmp_path / "installed"))
    assert found == str(tmp_path / "installed/even_kernels/__init__.py")


@pytest.mark.skipif("GAN_SLOW" not in os.environ, reason="makes virtual environments, a minute: set GAN_SLOW=1")
@pytest.mark.parametrize("how", [[str(ROOT)], ["-e", str(ROOT)], [f"git+file://{ROOT}"]], ids=["directory", "editable", "git"])
def test_pip_installs_it_into_a_fresh_environment(how, tmp_path):
    """torch, pip and setuptools are borrowed from this environment, so that nothing is downloaded."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    program = tmp_path / "venv/bin/python"
    site = python(program, "import sysconfig; print(sysconfig.get_path('purelib'))", tmp_path)
    with open(f"{site}/borrowed.pth", "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    arguments = ["--no-build-isolation", "--no-deps", "--quiet", *how]
    subprocess.run([program, "-m", "pip", "install", *arguments], check=True, cwd=tmp_path)
    found = python(program, USE, tmp_path)
    assert found == str(ROOT / "gan/__init__.py") if how[0] == "-e" else found.startswith(site)
