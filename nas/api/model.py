"""A trained model for Python users: it generates text, has its metrics, and can be saved as a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas import bounds
from nas.architecture import Architecture
from nas.errors import DataError, UsageError
from nas.measure.hardware import checked_device
from nas.models import Decoder
from nas.models.seq2seq import Seq2Seq
from nas.training.model_folder import save_weights
from nas.training.trained_model import TrainedModel, read_model

TOKENS, TEMPERATURE = 200, 0.8


class Model:
    """Holds a trained model on one device, in evaluation mode."""

    def __init__(self, trained: TrainedModel, folder: Path) -> None:
        self._trained = trained
        self.folder = folder
        """The folder that the model was read from."""

    def __repr__(self) -> str:
        return f"<nas.Model {self.architecture} from {self.folder}>"

    @property
    def architecture(self) -> Architecture:
        return self._trained.architecture

    @property
    def module(self) -> nn.Module:
        """Returns the torch module itself, which maps token ids to logits."""
        return self._trained.module

    @property
    def metrics(self) -> Mapping[str, float]:
        """Returns the metrics that training measured: `val_loss`, and after `Study.train` also `test_loss` and
        others.
        """
        return self._trained.metrics

    @property
    def details(self) -> Mapping[str, Any]:
        """Returns what `Study.train` stored about the training: `study`, `trial`, `seed`, `steps`, `floors`,
        `differences` and more.

        Weights that the search kept have the metrics alone.
        """
        return self._trained.details

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of a text. Raises DataError for a character that is not in the vocabulary."""
        return self._trained.coder.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of token ids. Raises UsageError for an id outside the vocabulary."""
        known = len(self._trained.coder.symbols)
        for token in tokens:
            if not 0 <= token < known:
                raise UsageError(f"there is no token {token}", where="tokens", help=f"token ids are 0 to {known - 1}")
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
        """Returns the prompt and up to `tokens` more tokens. A model with a source returns its answer alone.

        `temperature` 0 always takes the likeliest token. `top_k` draws from the K likeliest tokens only. Another `seed`
        gives another text. `beams`, for models with a source, is the number of answers that are kept side by side.

        Raises UsageError when the model does not generate, and DataError when the prompt holds an unknown symbol.
        """
        if self.architecture.family == "encoder":
            raise UsageError("an encoder does not generate", code="no-generation")
        for name, value, most in (("tokens", tokens, bounds.GENERATED), ("beams", beams, bounds.BEAMS)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise UsageError(f"{name} must be a whole number from 0 to {most:,}, got {value!r:.80}", where=name)
        if not isinstance(prompt, str):
            raise UsageError(f"expected a text, got {prompt!r:.80}", where="prompt")
        device = next(self.module.parameters()).device
        prompt_1T = torch.tensor([self.encode(prompt)], dtype=torch.long, device=device)
        if isinstance(self.module, Seq2Seq):
            return self.decode(self._answer(self.module, prompt_1T, tokens, beams))
        if beams != 1:
            help = "leave it out: a text is drawn token by token"
            raise UsageError("beams are for models with a source", where="beams", help=help)
        if not prompt:
            raise UsageError("the prompt is empty", where="prompt", help="give at least one character to start from")
        generator = torch.Generator(device).manual_seed(seed)
        model = cast("Decoder", self.module)
        return self.decode(model.generate(prompt_1T, tokens, float(temperature), top_k, generator)[0].tolist())

    def save(self, folder: Path | str) -> Path:
        """Writes the model as a folder that `load_model` reads, and returns the folder.

        Raises UsageError when the folder holds anything else, and OutOfReach when the disk refuses the files.
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
    """Loads a model that `nas train`, `Study.train` or `Model.save` wrote, or that a search kept in `trials/NUMBER`.

    `device` is cpu, cuda or cuda:N. Raises UsageError when there is no such device, and DataError when a file is
    missing or damaged, or belongs to another model.
    """
    checked_device(device)
    return Model(read_model(Path(folder), device), Path(folder))
