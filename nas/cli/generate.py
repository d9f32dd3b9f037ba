"""`nas generate`: text from a trained trial."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.options import MOST_SEED, StudyName, TrialNumber
from nas.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from nas.models import Decoder
    from nas.models.seq2seq import Seq2Seq


def generate(
    study: StudyName,
    trial: TrialNumber,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What the text begins with.")],
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=0, help="How many to add.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option("--top-k", metavar="K", help="Draw from the K likeliest.")] = None,
    beams: Annotated[int, typer.Option("--beams", metavar="N", min=1, help="Answers kept side by side.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Another seed, another text.")] = 0,
) -> None:
    """Write text with a trained trial.

    Prints the prompt and what the model makes of it; of a model with a source, its answer to the prompt. The weights
    are the newest that `nas train` wrote for the trial, else those that the search kept for its front.

    Exit codes: 0; 2 when there are no weights, the prompt holds a character that the model never saw, or the model
    does not generate.
    """
    import torch

    from nas.models.seq2seq import Seq2Seq
    from nas.study import open_study
    from nas.study.trained_weights import weights_of
    from nas.training.model_folder import load_weights

    stored = open_study(study)
    if stored.trial(trial).model.family == "encoder":
        raise UsageError(f"trial {trial} is an encoder, which does not generate", code="no-generation")
    module, coder = load_weights(weights_of(stored, trial))
    prompt_1T = torch.tensor([coder.encode(prompt)], dtype=torch.long)
    if isinstance(module, Seq2Seq):
        text_U = answer(module, prompt_1T, min(tokens, module.context), beams, coder.symbols)
    else:
        model, generator = cast("Decoder", module), torch.Generator().manual_seed(seed)
        text_U = model.generate(prompt_1T, tokens, temperature, top_k, generator)[0].tolist()
    typer.echo(coder.decode(text_U))


def answer(model: "Seq2Seq", source_1S: "Tensor", steps: int, beams: int, symbols: list[str]) -> list[int]:
    """What the model answers, up to its end."""
    start, stop = symbols.index("<start>"), symbols.index("<end>")
    written: list[int] = model.generate(source_1S, steps, start, stop, beams)[0].tolist()
    return written[: written.index(stop)] if stop in written else written
