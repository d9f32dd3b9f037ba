"""Checks whether a launch asks for the study that is stored: settings, data, hardware."""

from collections.abc import Mapping
from typing import Any

from nas.errors import Conflict
from nas.measure import hardware_id
from nas.running.own_body import same_function
from nas.settings import protocol_versions, recipe_versions
from nas.settings.study_file import StudyFile
from nas.space.parameter_settings import ParameterSettings
from nas.space.settings import difference
from nas.study import checked

# The corpus and the tokenizer are compared by their hashes, so that their files may move.
FREE_TO_CHANGE = (
    *("name", "search.trials", "search.sampler", "search.stopping", "search.skip", "search.retries."),
    "search.confirm",
    *("resources.", "train.time_limit", "task.corpus", "task.tokenizer"),
)

CHANGED = {
    "family": "other families",
    "space": "another search space",
    "objectives": "other objectives",
    "constraints": "other constraints",
    "baselines": "other baselines",
    "trial": "another body",
    "targets": "other targets",
}
"""Names in words the parts that are not tables of settings."""
FORKED = ("family", "space", "objectives", "constraints", "baselines", "measure", "targets")
"""A study that differs in these alone can take over trials of the stored one."""


def new_study(name: str) -> str:
    """Returns the help of a study that cannot go on."""
    return f"nas search ... --study {name}_2   starts a new study"


def forked_study(name: str) -> str:
    """Returns the help of a study whose trials may be valid in another study."""
    return f"nas fork {name} {name}_2 FILE   takes over the trials that remain valid\n{new_study(name)}"


def with_search_rules(stored: Mapping[str, Any], file: StudyFile) -> dict[str, Any]:
    """Returns the stored settings with the file's sampler, stopping, skipping and confirming, which later launches then
    keep.
    """
    search, before = file.search.model_dump(mode="json"), stored["search"]
    kept = ["sampler", "stopping", "skip"]
    if search["confirm"] or "confirm" in before:  # studies of earlier versions do not have it
        kept.append("confirm")
    return {**stored, "search": {**before, **{key: search[key] for key in kept}}}


def require_versions(study: str, stored: StudyFile) -> None:
    """Raises Conflict where the study was trained by a recipe, or measured by a protocol, that this version of nas does
    not have.
    """
    require_recipe(study, stored.train.recipe)
    if stored.measure.protocol not in protocol_versions.VERSIONS:
        known = ", ".join(map(str, protocol_versions.VERSIONS))
        raise Conflict(
            f"study '{study}' was measured by another protocol than this version of nas has",
            code="protocol-unknown",
            where="measure.protocol",
            detail=f"stored {stored.measure.protocol}   known {known}",
            help=new_study(study),
        )


def require_recipe(study: str, version: int) -> None:
    """Raises Conflict where the study was trained by a recipe that this version of nas does not have."""
    if version not in recipe_versions.VERSIONS:
        raise Conflict(
            f"study '{study}' was trained by another recipe than this version of nas has",
            code="recipe-unknown",
            where="train.recipe",
            detail=f"stored {version}   known {', '.join(map(str, recipe_versions.VERSIONS))}",
            help=new_study(study),
        )


def with_stored_versions(file: StudyFile, stored: Mapping[str, Any]) -> StudyFile:
    """Returns the file with the stored study's recipe, and its protocol of measuring, where it names none itself."""
    if isinstance(file.space, ParameterSettings):
        return file
    before = checked.settings(stored)
    if "recipe" not in file.train.model_fields_set:
        file = checked.with_recipe(file, before.train.recipe)
    return file if "protocol" in file.measure.model_fields_set else checked.with_protocol(file, before.measure.protocol)


def refuse_another(
    stored: Mapping[str, Any],
    file: StudyFile,
    source: str,
    described: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    trained: int,
) -> None:
    """Raises Conflict with the first difference that would make stored and new trials incomparable."""
    help = new_study(file.name)
    require_versions(file.name, checked.settings(stored))
    # Parsed again, so that keys added in this version appear with their defaults.
    settings = checked.settings(stored).resolved()
    for path, old, new in difference(settings, file.resolved()):
        if path.startswith(FREE_TO_CHANGE) or (path == "trial.body" and same_function(old, new)):
            continue
        part = path.partition(".")[0].partition("[")[0]
        raise Conflict(
            f"study '{file.name}' was created with {CHANGED.get(part, f'another [{part}]')}",
            code=f"{part}-changed",
            where=f"{source}  {path}",
            detail=f"stored {old}   now {new}   ({trained} trials remain valid)",
            help=forked_study(file.name) if part in FORKED else help,
        )
    sha256 = stored.get("data", {}).get("sha256", "")
    if described and sha256 != described["sha256"]:
        detail = f"stored sha256 {sha256[:12] or 'none'}   now {described['sha256'][:12]}"
        text = f"study '{file.name}' was created with other data"
        raise Conflict(text, code="data-changed", where=f"{source}  task.corpus", detail=detail, help=help)
    tokenizer = stored.get("data", {}).get("tokenizer", "")
    if described and tokenizer != described.get("tokenizer", ""):
        detail = f"stored sha256 {tokenizer[:12]}   now {described.get('tokenizer', '')[:12]}"
        text = f"study '{file.name}' was created with another tokenizer"
        raise Conflict(text, code="data-changed", where=f"{source}  task.tokenizer", detail=detail, help=help)
    timed = [each.metric for each in file.judged() if not each.means.exact]
    before = stored.get("environment", {})
    if timed and hardware_id(before) != hardware_id(now):
        keys = ("cpu", "logical_cores", "gpus")
        detail = "\n".join(f"{key}: stored {before.get(key)}   now {now[key]}" for key in keys)
        text = f"study '{file.name}' measured {timed[0]} on other hardware"
        raise Conflict(text, code="hardware-changed", detail=detail, help=forked_study(file.name))
