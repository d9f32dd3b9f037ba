"""The environment is plain data that names no person or place, and its id follows what decides the speed."""

import json
import platform
from importlib.metadata import version

from nas.measure import environment, hardware_id


def test_the_environment_survives_json_and_says_what_ran():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["torch"] == version("torch")
    assert found["python"] == platform.python_version()
    assert found["logical_cores"] >= 1
    assert found["memory_gib"] > 0
    assert found["cpu"]


def test_nothing_names_the_machine_its_user_or_a_path():
    found = environment()
    assert set(found) == {"cpu", "logical_cores", "memory_gib", "gpus", "os", "python", "versions", "threads"}
    assert '"/' not in json.dumps(found)


def test_the_id_is_stable_and_changes_with_what_decides_the_speed():
    found = environment()
    same = {**found, "python": "0.0", "versions": {}, "threads": 99, "memory_gib": 1.0}
    assert hardware_id(found) == hardware_id(same) == hardware_id(json.loads(json.dumps(found)))
    assert len(hardware_id(found)) == 12
    for change in ({"cpu": "another"}, {"logical_cores": 999}, {"gpus": [{"name": "a GPU", "memory_gib": 80.0}]}):
        assert hardware_id({**found, **change}) != hardware_id(found)
