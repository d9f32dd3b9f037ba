"""`nas doctor`."""

import json
import re
import tempfile
from importlib import metadata

import pytest

from nas.api import machine as doctor
from nas.measure.contention import LoadWatch
from nas.running import gpu_doctor
from nas.running.gpu_doctor import GpuFinding


@pytest.fixture
def findings(nas):
    """name → finding, of `nas doctor --json`."""

    def look(expected: int = 0) -> dict[str, dict[str, str]]:
        ran = nas("doctor", "--json")
        lines = [json.loads(line) for line in ran.out.splitlines()]
        assert ran.code == expected
        assert lines[-1] == {"v": 1, "type": "result", "failed": sum(line.get("level") == "fail" for line in lines)}
        return {line["name"]: line for line in lines[:-1]}

    return look


def test_a_sound_machine(findings):
    found = findings()
    assert list(found)[:5] == ["python", "torch", "ray", "optuna", "cpu"]
    assert found["torch"]["text"] == metadata.version("torch")
    assert {found[name]["level"] for name in ("python", "torch", "ray", "optuna", "cpu", "runs")} == {"ok"}
    assert found["python-docs"]["text"].endswith("characters")


@pytest.mark.parametrize(
    ("contended", "level", "told"),
    [
        (True, "warn", "other programs keep 1.5 cores busy: times are marked as contended"),
        (False, "ok", "no other program"),
    ],
)
def test_a_busy_machine_is_told(findings, monkeypatch, contended, level, told):
    monkeypatch.setattr(LoadWatch, "contended", contended, raising=False)
    monkeypatch.setattr(LoadWatch, "foreign_cores", 1.5, raising=False)
    monkeypatch.setattr(LoadWatch, "__exit__", lambda *_: None)
    found = findings()["load"]
    assert found["level"] == level
    assert found["text"].startswith(told)


def test_for_people(nas):
    ran = nas("doctor")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert ["ok", "torch", metadata.version("torch")] in [line.split() for line in ran.out.splitlines()]


def test_a_missing_package_fails(findings, monkeypatch):
    version = metadata.version

    def without_ray(name: str) -> str:
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_ray)
    ray = findings(expected=1)["ray"]
    assert (ray["level"], ray["text"]) == ("fail", "not installed")
    assert "pip install" in ray["fix"]


def test_a_package_out_of_range_fails(findings, monkeypatch):
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "4.9.0" if name == "optuna" else version(name))
    optuna = findings(expected=1)["optuna"]
    assert optuna["level"] == "fail"
    assert re.fullmatch(r"pip install 'optuna[<>=,0-9]+'", optuna["fix"])


def test_a_folder_of_runs_that_cannot_be_written_fails(findings, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    runs = findings(expected=1)["runs"]
    assert runs["level"] == "fail"
    assert "NAS_RUNS" in runs["fix"]


def test_a_network_file_system_fails(findings, monkeypatch):
    import psutil

    disk = psutil.disk_partitions(all=True)[0]._replace(mountpoint="/", fstype="nfs4")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [disk])
    runs = findings(expected=1)["runs"]
    assert "nfs4" in runs["text"]


def test_runs_not_made_yet_stay_so(findings, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "deep" / "runs"))
    assert "not made yet" in findings()["runs"]["text"]
    assert list(tmp_path.iterdir()) == []


def test_little_disk_warns(findings, monkeypatch):
    usage = doctor.shutil.disk_usage("/")._replace(free=2**30)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert findings()["disk"]["level"] == "warn"


def test_data_folder(findings, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path / "gone"))
    assert findings()["NAS_DATA_DIR"]["level"] == "warn"
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    (tmp_path / "tinyshakespeare.txt.gz").write_bytes(b"not gzip")
    found = findings()
    assert found["NAS_DATA_DIR"]["level"] == "ok"
    assert found["tinyshakespeare"]["level"] == "warn"


@pytest.mark.parametrize("level", ["ok", "fail"])
def test_checks_of_a_gpu_are_told_for_people_and_for_programs(nas, level, monkeypatch):
    card = {"name": "Card", "memory_gib": 80.0}
    found = {"gpus": [card], "versions": {"torch": "2"}, "os": "Linux", "cuda": "13", "capability": "9.0"}
    finding = GpuFinding("flex", level, "compiled", "install it", 1.5, {"most_difference": 0.25})
    monkeypatch.setattr(gpu_doctor, "machine", lambda: found)
    monkeypatch.setattr(gpu_doctor, "examine_gpu", lambda: iter([finding]))
    ran = nas("doctor", "--gpu")
    assert ran.code == (level == "fail")
    assert "Card, 80 GiB, capability 9.0, CUDA 13" in ran.out
    assert "most_difference 0.25" in ran.out
    ran = nas("doctor", "--gpu", "--json")
    assert ran.code == (level == "fail")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["type"] for line in lines] == ["machine", "check", "result"]
    assert lines[1]["figures"] == {"most_difference": 0.25}
    assert lines[2]["failed"] == (level == "fail")
