"""`nas generate` writes text with a trained trial."""

from typing import Annotated

import typer

from nas.cli.options import FOLDER, MOST_SEED, STORAGE, Folder, Storage, StudyName, TrialNumber, naming_options
from nas.errors import UsageError


def generate(
    study: StudyName,
    trial: TrialNumber,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="The beginning of the text.")],
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=0, help="The most tokens to add.")] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Randomness; 0: always the likeliest token.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option("--top-k", metavar="K", help="Draw from the K likeliest tokens.")] = None,
    beams: Annotated[
        int, typer.Option("--beams", metavar="N", min=1, help="Beams of the search for an answer; 1: greedy.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Another seed gives another text.")] = 0,
    storage: Storage = None,
    folder: Folder = None,
) -> None:
    """Write text with a trained trial.

    Prints the prompt and the new text, or for a model with a source its answer to the prompt. It uses the newest
    weights that `nas train` wrote for the trial, or else those that the search kept for its front.

    Exit codes: 0; 2 when there are no weights, the prompt holds an unknown character, or the model does not generate.
    """
    from nas.api.study import open_study
    from nas.cli.output import tell
    from nas.study.run_folders import folder_place

    stored = open_study(study, storage, STORAGE, folder=folder_place(folder, FOLDER))
    if stored.file.trial is None and stored.trial(trial).model.family == "encoder":
        raise UsageError(f"trial {trial} is an encoder, which does not generate", code="no-generation")
    with naming_options():
        model = stored.model(trial)
        text = model.generate(prompt, tokens, temperature=temperature, top_k=top_k, beams=beams, seed=seed)
    tell(text)
