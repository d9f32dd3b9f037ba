"""A trained model as Python users hold it: it writes text, knows its figures, and is saved as a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas import bounds
from nas.architecture import Architecture
from nas.errors import DataError, UsageError
from nas.models import Decoder
from nas.models.seq2seq import Seq2Seq
from nas.training.model_folder import save_weights
from nas.training.trained_model import TrainedModel, read_model

TOKENS, TEMPERATURE = 200, 0.8


class Model:
    """A trained model, on one device, in evaluation mode."""

    def __init__(self, trained: TrainedModel, folder: Path) -> None:
        self._trained = trained
        self.folder = folder
        """The folder that it was read from."""

    def __repr__(self) -> str:
        return f"<nas.Model {self.architecture} from {self.folder}>"

    @property
    def architecture(self) -> Architecture:
        return self._trained.architecture

    @property
    def module(self) -> nn.Module:
        """The torch module itself: logits of token ids."""
        return self._trained.module

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures that its training measured: `val_loss`, and after `Study.train` `test_loss` and so on."""
        return self._trained.metrics

    @property
    def details(self) -> Mapping[str, Any]:
        """The facts that `Study.train` keeps about the training: `study`, `trial`, `seed`, `steps`, `floors`,
        `differences` ...

        Of weights that the search kept, the metrics alone.
        """
        return self._trained.details

    def encode(self, text: str) -> list[int]:
        """The token ids of a text. Raises DataError for a character that the model never saw."""
        return self._trained.coder.encode(text)

    def decode(self, tokens: list[int]) -> str:
        return self._trained.coder.decode(tokens)

    def generate(
        self,
        prompt: str,
        tokens: int = TOKENS,
        *,
        temperature: float = TEMPERATURE,
        top_k: int | None = None,
        beams: int = 1,
        seed: int = 0,
    ) -> str:
        """The prompt and up to `tokens` more; of a model with a source, its answer to the prompt alone.

        `temperature` 0 takes the likeliest token each time, `top_k` draws from the K likeliest alone, and another
        `seed` gives another text. `beams` is for models with a source: so many answers are kept side by side.

        Raises UsageError when the model does not generate, DataError when the prompt holds what it never saw.
        """
        if self.architecture.family == "encoder":
            raise UsageError("an encoder does not generate", code="no-generation")
        for name, value, most in (("tokens", tokens, bounds.GENERATED), ("beams", beams, bounds.BEAMS)):
            if not 0 <= value <= most:
                raise UsageError(f"{name} must be at most {most:,}, got {value:,}", where=name)
        device = next(self.module.parameters()).device
        prompt_1T = torch.tensor([self.encode(prompt)], dtype=torch.long, device=device)
        if isinstance(self.module, Seq2Seq):
            return self.decode(self._answer(self.module, prompt_1T, tokens, beams))
        if beams != 1:
            help = "leave it out: a text is drawn token by token"
            raise UsageError("beams are for models with a source", where="beams", help=help)
        generator = torch.Generator(device).manual_seed(seed)
        model = cast("Decoder", self.module)
        return self.decode(model.generate(prompt_1T, tokens, float(temperature), top_k, generator)[0].tolist())

    def save(self, folder: Path | str) -> Path:
        """Write the model as a folder that `load_model` reads, and return it.

        Raises UsageError when the folder holds anything else, OutOfReach when the disk refuses.
        """
        from nas.training.training_folder import refuse_foreign

        folder, trained = Path(folder), self._trained
        refuse_foreign(folder)
        save_weights(
            folder,
            trained.module,
            trained.architecture,
            coder=trained.coder,
            context=trained.context,
            head=trained.head,
            metrics=trained.details,
        )
        return folder

    def _answer(self, model: Seq2Seq, source_1S: Tensor, tokens: int, beams: int) -> list[int]:
        """Returns the model's answer, up to its end symbol."""
        symbols = self._trained.coder.symbols
        if not {"<start>", "<end>"} <= set(symbols):
            raise DataError("the vocabulary has no <start> and <end>", code="model-damaged", where=str(self.folder))
        start, stop = symbols.index("<start>"), symbols.index("<end>")
        steps = min(tokens, model.context)
        written: list[int] = model.generate(source_1S, steps, start, stop, beams)[0].tolist()
        return written[: written.index(stop)] if stop in written else written


def load_model(folder: Path | str, device: str = "cpu") -> Model:
    """Load what `nas train`, `Study.train` or `Model.save` wrote, or what a search kept in `trials/NUMBER`.

    Raises DataError when a file is missing, broken, or of another model.
    """
    return Model(read_model(Path(folder), device), Path(folder))
