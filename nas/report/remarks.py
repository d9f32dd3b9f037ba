"""Lists what is missing, what failed and what was disturbed, for the reader to see before the figures."""

from collections import Counter

from nas.report.health.baselines import floor_remarks
from nas.report.summary import Role, Summary
from nas.report.words import by_best_readings, disturbed, listed, plural, reason
from nas.results import State

LONGEST = 200
"""So many characters of an error are quoted."""


def remarks(summary: Summary) -> list[str]:
    """Lists what a reader must know before the figures, a sentence or two each."""
    told = (*floor_remarks(summary.record), _unspent(summary), *_unended(summary), failures(summary), load(summary))
    return [remark for remark in told if remark]


def _unspent(summary: Summary) -> str:
    record, trained = summary.record, summary.record.trained_count()
    if not trained:
        return "" if _all_failed(summary) else "No trial has been trained yet."
    left = trained < record.budget
    return f"The budget is not spent: {trained} of {plural(record.budget, 'trial')} trained." if left else ""


def _unended(summary: Summary) -> list[str]:
    counts = {
        "had not ended when this page was written": len(summary.with_role(Role.OPEN)),
        "ended without a finite value of every objective": len(summary.with_role(Role.UNMEASURED)),
    }
    return [f"{plural(count, 'trial')} {what}." for what, count in counts.items() if count]


def failures(summary: Summary) -> str:
    """Tells how many trials failed, why, and the text of the last error."""
    failed = summary.with_role(Role.FAILED)
    if not failed:
        return ""
    whys = Counter(reason(trial, Role.FAILED, {}) or "no reason given" for trial in failed).most_common()
    told = listed([f"{count} ({why})" for why, count in whys]) if len(whys) > 1 else whys[0][0]
    every = "Every trial that ended has failed" if _all_failed(summary) else f"{plural(len(failed), 'trial')} failed"
    last = next((trial for trial in reversed(failed) if trial.detail.strip()), None)
    quoted = f" Trial {last.number} says: {_last_line(last.detail)}" if last else ""
    return f"{every}: {told}.{quoted}"


def load(summary: Summary) -> str:
    """Tells how many measurements other load disturbed, and what that may have decided."""
    contended = [trial for trial in summary.record.trials if trial.contended]
    if not contended:
        return ""
    over = sum(disturbed(trial, summary.record.own_metrics) for trial in contended)
    kept = f" {over} of them may be over a limit on a time for that reason alone." if over else ""
    within = sum(by_best_readings(trial, summary.record.constraints) for trial in contended)
    kept += f" {within} of them met a limit by the fastest readings, and show a time above it." if within else ""
    trials = f"{len(contended)} of {plural(len(summary.record.trials), 'trial')}"
    return f"{trials} had a time measured while other programs used the machine; it may be too long.{kept}"


def why_empty(summary: Summary) -> str:
    """Says why there is no front."""
    if _all_failed(summary):
        return failures(summary)
    if not summary.record.trained_count():
        return "No trial has been trained yet."
    complete = [trial for trial in summary.record.trials if trial.state is State.COMPLETE]
    if not complete:
        return " ".join(filter(None, ["No trial has been trained to the end.", failures(summary)]))
    if not any(trial.feasible for trial in complete):
        limits = listed([str(constraint) for constraint in summary.record.constraints])
        return f"No trial that was trained to the end meets the constraints ({limits})."
    return "No trial that was trained to the end has a finite value of every objective."


def _all_failed(summary: Summary) -> bool:
    failed = summary.with_role(Role.FAILED)
    return bool(failed) and len(failed) == len(summary.record.trials) - len(summary.with_role(Role.OPEN))


def _last_line(detail: str) -> str:
    """Returns the last line of an error's text, which names it; shortened, and with a full stop."""
    line = detail.strip().splitlines()[-1].strip()
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    return line if line.endswith((".", "…", "!", "?")) else f"{line}."
