"""Measures what an architecture costs on this hardware: time, memory and energy.

A lock gives each measurement the device alone.
"""

from nas.measure.cheap import measure
from nas.measure.exclusive import DeviceLock
from nas.measure.hardware import environment, hardware_id
from nas.measure.memory import peak_mib
from nas.measure.processors import available_cpus

__all__ = ["DeviceLock", "available_cpus", "environment", "hardware_id", "measure", "peak_mib"]
