"""Energy comes from counters alone: none there, none told."""

from pathlib import Path

import pytest
import torch

from nas.measure import nvidia
from nas.measure.energy import energy_mj, package_energy_mj


def domain(powercap: Path, name: str, kind: str, microjoules: int, largest: int = 999_999) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    first = domain(tmp_path, "intel-rapl:0", "package-0", 1000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 5000)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 0)
    platform = domain(tmp_path, "intel-rapl:2", "psys", 0)

    def run() -> None:
        first.write_text("3500\n")
        second.write_text("5500\n")
        core.write_text("100000\n")
        platform.write_text("100000\n")

    assert package_energy_mj(run, tmp_path) == pytest.approx(3.0)


def test_a_counter_that_starts_again_is_followed(tmp_path):
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 999_000)
    assert package_energy_mj(lambda: counter.write_text("1000\n"), tmp_path) == pytest.approx(2.0)


def test_without_a_readable_counter_there_is_no_figure_and_no_run(tmp_path):
    ran = []
    assert package_energy_mj(lambda: ran.append(1), tmp_path) is None
    domain(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    assert package_energy_mj(lambda: ran.append(1), tmp_path) is None
    assert not ran


def test_a_gpu_counter_is_read_before_and_after(monkeypatch):
    readings = iter([1000.0, 1250.0])
    monkeypatch.setattr(nvidia, "energy_mj", lambda device: next(readings))
    assert energy_mj(lambda: None, torch.device("cuda")) == 250


def test_without_nvidias_library_a_gpu_has_no_figure(monkeypatch):
    monkeypatch.setattr(nvidia, "pynvml", None)
    assert energy_mj(lambda: None, torch.device("cuda")) is None
    assert nvidia.foreign_share(torch.device("cuda"), since=0) == 0
