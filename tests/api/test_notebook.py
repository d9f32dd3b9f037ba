"""In a notebook: a search shows its progress, and an interrupted cell saves."""

import nbformat
import pytest
from nbclient import NotebookClient

PROGRESS = """
import nas
study = nas.search("exact.toml", executor="serial", trials=1, observer=lambda event: print(event["type"]))
"""
INTERRUPTED = """
import os, signal

def interrupt(event):
    if event["type"] == "rung":
        os.kill(os.getpid(), signal.SIGINT)  # what the button does

nas.resume(study, executor="serial", trials=2, observer=interrupt)
"""
RESUMED = """
states = study.status()["states"]
print(states, nas.resume(study, executor="serial").status()["trained"])
"""


def printed(outputs) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.slow
@pytest.mark.waits
def test_a_cell_shows_progress_and_an_interrupt_leaves_the_study_resumable(file):
    cells = [nbformat.v4.new_code_cell(source) for source in (PROGRESS, INTERRUPTED, RESUMED)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=200, allow_errors=True, kernel_name="python3").execute()
    progress, interrupted, resumed = (cell.outputs for cell in notebook.cells)
    told = printed(progress).split()
    assert (told[0], told.count("finished")) == ("study", 1), progress
    assert [output.ename for output in interrupted if output.output_type == "error"] == ["KeyboardInterrupt"]
    assert printed(resumed) == "{'COMPLETE': {'': 1}, 'WAITING': {'': 1}} 2\n", resumed
