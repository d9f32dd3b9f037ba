"""Checks the sizes of a training batch and of the timed workload against the task, the family and the bounds."""

from collections.abc import Sequence

from nas import bounds
from nas.architecture import Family
from nas.errors import InvalidStudyFile
from nas.settings.study_settings import MeasureSettings
from nas.settings.task_settings import AssociativeRecall, SelectiveCopy, TaskSettings


def check_workload(task: TaskSettings, family: Sequence[Family], train_batch: int, measure: MeasureSettings) -> None:
    """Raises InvalidStudyFile when one batch is beyond the bounds, or a prompt leaves nothing to write."""
    sizes = [("context", task.context, bounds.TOKENS_AT_ONCE)]
    if isinstance(task, (AssociativeRecall, SelectiveCopy)):
        sizes.append(("vocabulary", task.vocabulary, bounds.NUMBERS_AT_ONCE))
    for table, batch in (("train", train_batch), ("measure", measure.batch)):
        for name, size, most in sizes:
            if batch * size > most:
                text = f"batch {batch:,} × {name} {size:,} is more than {most:,}"
                help = f"use at most {most // size:,}, or a smaller {name}"
                raise InvalidStudyFile(text, where=f"{table}.batch", help=help)
    check_prompt(measure.prompt, task.context, family, "measure.prompt")


def check_prompt(prompt: int | None, context: int, family: Sequence[Family], where: str) -> None:
    """Raises InvalidStudyFile for a prompt of a model that writes nothing, and for one that leaves nothing to write."""
    if prompt is not None and tuple(family) == ("encoder",):
        text = "an encoder reads its text at once and writes nothing, so it has no prompt"
        raise InvalidStudyFile(text, where=where, help="leave it out")
    if prompt is not None and prompt >= context:
        raise InvalidStudyFile(
            f"a prompt of {prompt} tokens leaves nothing to decode in context {context}",
            where=where,
            help=f"use at most {context - 1}, or leave it out: half the context",
        )
