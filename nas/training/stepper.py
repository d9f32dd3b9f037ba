"""Takes the steps of one training: draws a batch, sums its gradient, updates the weights. Every rank holds one."""

import torch
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.errors import UsageError
from nas.models.layers import Learned
from nas.settings.recipe_versions import VERSIONS
from nas.settings.study_settings import TrainSettings
from nas.tasks import Inputs, Task, model_of
from nas.training import optimiser
from nas.training.execution import chosen_execution, translated
from nas.training.gradients import backward
from nas.training.model_folder import tensors_of
from nas.training.ranks import Alone, GradientSum, Ranks


class Stepper:
    """Holds what a step changes: the model, the optimiser, and the generator that draws batches.

    Every rank draws the whole batch, by the same generator, and takes its share of it. The gradients are summed over
    the ranks, so that all ranks update alike, as one process with the whole batch would, but for rounding.
    `learning_rate` is the one that the search chose. `tokens` counts those of all batches.
    """

    def __init__(
        self,
        architecture: Architecture,
        task: Task,
        settings: TrainSettings,
        *,
        seed: int,
        device: str = "cpu",
        learning_rate: float | None = None,
    ) -> None:
        self.architecture, self.task, self.settings, self.device = architecture, task, settings, device
        self._seed, self._learning_rate = seed, learning_rate
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = model_of(architecture, task)
        if VERSIONS[settings.recipe].sinusoidal_start:
            _start_sinusoidal(self.model)
        self.model.to(device)
        self.optimiser = optimiser.build(self.model, settings, learning_rate or only_rate(settings))
        self.generator = torch.Generator().manual_seed(seed)
        self.execution = chosen_execution(settings, device)
        self.tokens = 0
        self._called: nn.Module | None = None
        self._ranks: Ranks = Alone()
        self._sum = GradientSum(self._ranks, ())

    def anew(self, settings: TrainSettings) -> "Stepper":
        """Returns the same training from its start, with these settings, in memory of its own."""
        return Stepper(
            self.architecture,
            self.task,
            settings,
            seed=self._seed,
            device=self.device,
            learning_rate=self._learning_rate,
        )

    def join(self, ranks: Ranks) -> None:
        """Makes this one of several ranks, and copies the state of rank 0 to all. Raises RankLost."""
        self._ranks, self._sum = ranks, GradientSum(ranks, self.model.parameters())
        drawn = self.generator.get_state()
        for tensor in (*self.tensors().values(), drawn):
            there = tensor.to(self.device)
            ranks.copy(there)
            tensor.copy_(there)
        self.generator.set_state(drawn)

    def take(self) -> Tensor:
        """Takes one step. Returns the loss of the whole batch, on the device, so that nothing waits for it here."""
        batch = self.task.batch(self.generator, self.settings.batch, "cpu")
        self.optimiser.zero_grad()
        rank, ranks = self._ranks.rank, self._ranks.size
        loss = backward(self._loss, batch, self.device, self.settings.micro_batch, rank, ranks)
        loss = self._sum.take(loss)
        self.optimiser.step()
        self.tokens += batch[0][0].numel()
        return loss

    def _loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        if self._called is None:
            self._called = translated(self.model) if self.execution.compiled else self.model
        with self.execution.around_loss(self.device):
            return self.task.loss(self._called, inputs, targets)

    def tensors(self) -> dict[str, Tensor]:
        """Returns every tensor that the next step depends on, by name: the live ones, to be saved or copied into."""
        parts = {"model": tensors_of(self.model), "optimiser": self.optimiser.state()}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def only_rate(settings: TrainSettings) -> float | None:
    """Returns the learning rate of the settings. Raises UsageError where they have several."""
    rates = settings.learning_rate or (None,)
    if len(rates) > 1:
        raise UsageError(
            "the settings offer several learning rates, and none was chosen",
            code="learning-rate",
            where="train.learning_rate",
            detail=", ".join(f"{rate:g}" for rate in rates if rate),
            help="keep one of them",
        )
    return rates[0]


def _start_sinusoidal(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, Learned):
            part.start_sinusoidal()
