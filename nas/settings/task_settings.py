"""Reads the `[task]` table of a study file. A kind of task may have keys of its own, and declares what it supports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_serializer, model_validator

from nas import bounds
from nas.architecture import Family
from nas.spec import Flag
from nas.toml_table import Count, Number, Table


@dataclass(frozen=True)
class TaskKind:
    """Describes one task.

    It has its class, `module:class` under nas.tasks, which is imported when a task is opened; the families that can
    learn it; and its metrics of quality besides val_loss and val_accuracy.

    `has_source`: it reads one text and writes another. `writes`: its models end in logits of tokens; other models have
    no output matrix that could be tied. `rows`: its examples are rows of a table, by default of the data set `corpus`,
    if there is one.
    """

    module: str
    families: tuple[Family, ...]
    qualities: tuple[str, ...] = ()
    has_source: bool = False
    writes: bool = True
    rows: bool = False
    corpus: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Returns the metrics that this task's trials have, out of those that only some tasks have."""
        return (*self.qualities, "generation_ms") if self.has_source else self.qualities


Vocabulary = Annotated[Count, Field(le=bounds.VOCABULARY)]
Context = Annotated[Count, Field(le=bounds.CONTEXT)]
Corpus = Annotated[str, Field(min_length=1, max_length=bounds.PATH)]
SEQ2SEQ: tuple[Family, ...] = ("encoder_decoder", "recurrent")
TASK_KINDS: dict[str, TaskKind] = {
    "language_modelling": TaskKind(
        "language_modelling:LanguageModelling", ("decoder", "recurrent"), ("bits_per_char", "perplexity")
    ),
    "masked_language_modelling": TaskKind(
        "masked_language_modelling:MaskedLanguageModelling", ("encoder",), ("perplexity",)
    ),
    "copy_spans": TaskKind("spans:CopySpans", SEQ2SEQ, ("exact_match",), has_source=True),
    "reverse_spans": TaskKind("spans:ReverseSpans", SEQ2SEQ, ("exact_match",), has_source=True),
    "associative_recall": TaskKind("synthetic:AssociativeRecall", ("decoder", "recurrent"), ("exact_match",)),
    "selective_copy": TaskKind("synthetic:SelectiveCopy", ("decoder", "recurrent"), ("exact_match",)),
    "list_ops": TaskKind("list_ops:ListOpsTask", ("encoder",), ("macro_f1",), writes=False),
    "sentiment": TaskKind("sentiment:Sentiment", ("encoder",), ("macro_f1",), writes=False, rows=True, corpus="tweets"),
    "question_answering": TaskKind(
        "question_answering:QuestionAnswering",
        ("encoder",),
        ("exact_match", "f1"),
        writes=False,
        rows=True,
        corpus="babi",
    ),
    "translation": TaskKind(
        "translation:Translation",
        SEQ2SEQ,
        ("bleu", "chrf"),
        has_source=True,
        rows=True,
        corpus="tatoeba-eng-fra",
    ),
    "summarisation": TaskKind(
        "summarisation:Summarisation",
        ("encoder_decoder",),
        ("rouge_1", "rouge_2", "rouge_l"),
        has_source=True,
        rows=True,
        corpus="scitldr",
    ),
}
"""All tasks. A new task whose examples are rows of a table needs a file under nas/tasks and an entry here. One on a
text is also named in TextTask. One with keys of its own has a class, in TASK_TABLES and in TaskSettings.
"""
DEFAULT = "language_modelling"


def _several(value: Any) -> Any:
    """A list of one is that one."""
    listed = tuple(value) if isinstance(value, list) else value
    return listed[0] if isinstance(listed, tuple) and len(listed) == 1 else listed


Corpora = Annotated[
    Corpus | Annotated[tuple[Corpus, ...], Field(min_length=1, max_length=bounds.FILES)], BeforeValidator(_several)
]


class TextTask(Table):
    """A task that is learned from one text, or from many documents."""

    kind: Literal["language_modelling", "masked_language_modelling", "copy_spans", "reverse_spans"] = (
        "language_modelling"
    )
    corpus: Corpora = "python-docs"
    column: Annotated[str, Field(min_length=1, max_length=bounds.PATH)] = "text"
    context: Context = Field(default=64, ge=2)
    split: Literal["80/10/10", "90/10"] = "80/10/10"
    subwords: Vocabulary | None = None
    tokenizer: Corpus | None = None

    @property
    def data(self) -> str:
        if isinstance(self.corpus, str):
            return self.corpus
        return f"{self.corpus[0]} and {len(self.corpus) - 1:,} more"

    @model_validator(mode="after")
    def _one_tokeniser(self) -> Self:
        if self.subwords and self.tokenizer:
            raise ValueError("subwords learns a tokenizer, and tokenizer names one: keep one of them")
        return self


def _pairs(value: Any) -> Any:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value.values()):
        raise ValueError('input should be a table of names, for example { text = "tweet" }')
    if len(value) > bounds.COLUMNS:
        raise ValueError(f"expected at most {bounds.COLUMNS} columns, got {len(value):,}")
    return tuple(value.items())


class TableTask(Table):
    """Describes a task that is learned from the rows of a table."""

    kind: str
    corpus: Corpus
    columns: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_pairs)] = ()
    context: Context = Field(default=64, ge=2)
    subwords: Vocabulary = 2000

    @property
    def data(self) -> str:
        return self.corpus

    @model_validator(mode="before")
    @classmethod
    def _usual_corpus(cls, data: Any) -> Any:
        """Fills in the task's own data set, where none is named."""
        usual = TASK_KINDS[data["kind"]].corpus if isinstance(data, Mapping) else ""
        return {"corpus": usual, **data} if usual else data

    @field_serializer("columns")
    def _as_table(self, columns: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return dict(columns)


class AssociativeRecall(Table):
    """The model recalls values: it reads keys with values, and then some of the keys again (nas.tasks.synthetic)."""

    kind: Literal["associative_recall"]
    context: Context = 64
    vocabulary: Vocabulary = 256
    pairs: Count = 8
    power: Annotated[Number, Field(gt=0, le=100)] = 0.01
    random_gaps: Flag = True

    @property
    def data(self) -> str:
        return f"generated: {self.pairs} pairs of {self.vocabulary} tokens"

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.context % 2 or self.context < 4 * self.pairs:
            raise ValueError(f"{self.pairs} pairs and their queries need an even context of at least {4 * self.pairs}")
        if self.vocabulary <= self.context:
            raise ValueError(f"a vocabulary of {self.vocabulary} must be larger than the context, {self.context}")
        return self


class SelectiveCopy(Table):
    """The model copies in order the tokens that are scattered among blanks (nas.tasks.synthetic)."""

    kind: Literal["selective_copy"]
    context: Context = 64
    vocabulary: Annotated[Vocabulary, Field(ge=3)] = 16
    copied: Count = 8

    @property
    def data(self) -> str:
        return f"generated: {self.copied} of {self.vocabulary} tokens"

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.context < 2 * self.copied + 1:
            text = f"{self.copied} tokens, a mark and {self.copied} answers need a context of at least"
            raise ValueError(f"{text} {2 * self.copied + 1}")
        return self


class ListOps(Table):
    """The model evaluates nested operations on lists of digits (nas.tasks.list_ops)."""

    kind: Literal["list_ops"]
    shortest: Count = 10
    longest: Count = 100

    @property
    def context(self) -> int:
        """Returns the tokens of the longest expression that is kept."""
        return self.longest - 1

    @property
    def data(self) -> str:
        return f"generated: {self.shortest} < length < {self.longest}"

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.longest > 4000:
            raise ValueError(f"longest = {self.longest} must be at most 4000: larger expressions are too rare")
        if self.longest < self.shortest + 5:
            raise ValueError(f"longest = {self.longest} must be at least 5 above shortest = {self.shortest}")
        return self


TASK_TABLES: dict[str, type[TextTask | TableTask | AssociativeRecall | SelectiveCopy | ListOps]] = {
    "text": TextTask,
    "table": TableTask,
    "associative_recall": AssociativeRecall,
    "selective_copy": SelectiveCopy,
    "list_ops": ListOps,
}
"""The keys of tasks on one text, of tasks on a table, and of each kind that has keys of its own."""


def _table(value: Any) -> str:
    """Picks the keys that the kind has; for an unknown kind those of a text task, whose check then names the error."""
    kind = value.get("kind", DEFAULT) if isinstance(value, Mapping) else getattr(value, "kind", DEFAULT)
    if not isinstance(kind, str) or kind not in TASK_KINDS:
        return "text"
    return kind if kind in TASK_TABLES else "table" if TASK_KINDS[kind].rows else "text"


TaskSettings = Annotated[
    Annotated[TextTask, Tag("text")]
    | Annotated[TableTask, Tag("table")]
    | Annotated[AssociativeRecall, Tag("associative_recall")]
    | Annotated[SelectiveCopy, Tag("selective_copy")]
    | Annotated[ListOps, Tag("list_ops")],
    Discriminator(_table),
]
