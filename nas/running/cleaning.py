"""Cleans a study's trials once its search has ended: weights of the front stay, everything else of ours is deleted."""

from nas.results import ATTENTION_MAPS, State
from nas.running.front_measurement import undecided
from nas.study.stored_study import StoredStudy
from nas.training.folder_names import MODEL_FILES
from nas.trial_files import is_checkpoint, written_as

KEPT = (*MODEL_FILES, ATTENTION_MAPS)
"""Beside checkpoints, no other files are ever written into a trial's folder."""


def clean(study: StoredStudy) -> None:
    """Keeps the weights of the front and of what may still get there, and deletes all others and every checkpoint.

    For bodies of the user's own, it keeps the whole folders of these: what a body left in the others is deleted, as
    docs/own_training.md says. Raises OutOfReach where the folder cannot be reached.
    """
    run_folder = study.run_folder
    run_folder.require()
    record = study.record()
    front = {trial.number for trial in (*study.front(), *undecided(record))}
    for number in run_folder.numbers():
        if number >= len(record.trials) or record.trials[number].state in (State.RUNNING, State.WAITING):
            continue
        files, kept = run_folder.trial(number), number in front
        if study.file.trial:
            if not kept:
                files.delete_all()
        elif own := {written_as(name) for name in files.names()}:
            files.delete({name for name in own if is_checkpoint(name) or (name in KEPT and not kept)})
