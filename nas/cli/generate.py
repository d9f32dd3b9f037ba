"""`nas generate`: text from a trained trial."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.options import StudyName, TrialNumber
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.models import Decoder
    from nas.search import Study


def generate(
    study: StudyName,
    trial: TrialNumber,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What the text begins with.")],
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=0, help="How many to add.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option("--top-k", metavar="K", help="Draw from the K likeliest.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another text.")] = 0,
) -> None:
    """Write text with a trained trial.

    Prints the prompt and what the model makes of it. The weights are the newest that `nas train` wrote for the trial,
    else those that the search kept for its front.

    Exit codes: 0; 2 when there are no weights, or the prompt holds a character that the model never saw.
    """
    import torch

    from nas.artifact import load_weights
    from nas.search import open_study
    from nas.tasks.language_modelling import encode

    module, symbols = load_weights(weights_of(open_study(study), trial))
    model = cast("Decoder", module)
    prompt_1T = torch.tensor([encode(prompt, symbols)], dtype=torch.long)
    generator = torch.Generator().manual_seed(seed)
    text_1U = model.generate(prompt_1T, tokens, temperature=temperature, top_k=top_k, generator=generator)
    typer.echo("".join(symbols[token] for token in text_1U[0].tolist()))


def weights_of(study: "Study", number: int) -> Path:
    """The folder of the trial's newest weights. Raises UsageError when it has none."""
    from nas.artifact import WEIGHTS

    study.trial(number)
    trained = (study.folder / "trained").glob(f"{number}-s*/{WEIGHTS}")
    newest = sorted(trained, key=lambda path: path.stat().st_mtime)
    for path in (*reversed(newest), study.trial_folder(number) / WEIGHTS):
        if path.is_file():
            return path.parent
    raise UsageError(
        f"trial {number} of study '{study.name}' has no weights",
        code="no-weights",
        detail="the search keeps those of its front alone",
        help=f"nas train {study.address} {number}",
    )
