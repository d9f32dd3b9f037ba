"""Lists the data sets that are known by name, with the place, the licence and the SHA-256 of each.

Others publish them. Downloads are pinned to a commit or a release. The hash is that of the normalised file
(nas.data.normalise), so a change anywhere on the way is noticed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.data import normalise

GITHUB = "https://raw.githubusercontent.com"
BABI = f"{GITHUB}/siddk/entity-network/b18fbb7c749e98192a77132af9e537e399ac24c7/tasks/en-valid"
SCITLDR = f"{GITHUB}/allenai/scitldr/5ccad9c00a60ad75c9e04abf7f27d0f53f983b20/SciTLDR-Data/SciTLDR-A"
TATOEBA = f"{GITHUB}/genimind/seq2seq/4f3f8eb0adde54fcc8b89394336b002e7961244c/fra-eng.zip"
TINYSHAKESPEARE = f"{GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
VADER = (
    "https://files.pythonhosted.org/packages/77/8c/4a48c10a50f750ae565e341e697d74a38075a3e43ff0df6f1ab72e186902"
    "/vaderSentiment-3.3.2.tar.gz"
)


@dataclass(frozen=True)
class Dataset:
    """Describes a data set: its file, its hash and its sources.

    `file` is its name, gzipped, in NAS_DATA_DIR or the cache. `sha256` is that of the unpacked content. `normalise`
    makes that content from the downloads, given in the order of `urls`.
    """

    name: str
    task: str
    size: str
    licence: str
    origin: str
    file: str
    sha256: str
    urls: Sequence[str]
    normalise: Callable[[Sequence[Path]], bytes]
    columns: Mapping[str, str] = field(default_factory=dict)
    """Maps a task's name of a column to this file's."""


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="tinyshakespeare",
            task="language_modelling",
            size="1,115,394 characters",
            licence="public domain",
            origin="karpathy/char-rnn",
            file="tinyshakespeare.txt.gz",
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            urls=(TINYSHAKESPEARE,),
            normalise=normalise.unchanged,
        ),
        Dataset(
            name="tatoeba-eng-fra",
            task="translation",
            size="142,652 pairs",
            licence="CC BY 2.0",
            origin="tatoeba.org, manythings.org/anki (2017-09-29)",
            file="tatoeba_eng_fra.tsv.gz",
            sha256="ae3c2cabb9f8779db9773ca2b86b9eca6b2bb3b8566220f802a917463149cce8",
            urls=(TATOEBA,),
            normalise=normalise.tatoeba,
            columns={"source": "eng", "target": "fra"},
        ),
        Dataset(
            name="babi",
            task="question_answering",
            size="20,000 questions in 10 tasks",
            licence="CC BY 3.0",
            origin="Facebook, bAbI v1.2 (siddk/entity-network)",
            file="babi_en_1k_extractive.jsonl.gz",
            sha256="ce37bf76f9f06addb09123a0275d74f018b4423285eeb8b65c1107baccdca466",
            urls=tuple(f"{BABI}/qa{task}_{part}.txt" for task, part in normalise.BABI_FILES),
            normalise=normalise.babi,
        ),
        Dataset(
            name="tweets",
            task="sentiment",
            size="4,200 tweets",
            licence="MIT",
            origin="vaderSentiment 3.3.2 (Hutto and Gilbert 2014)",
            file="vader_tweets.jsonl.gz",
            sha256="5f1070f38ac5b12e3d52b96f97628915c036ee775ad5a7cfffa76b24a372fabe",
            urls=(VADER,),
            normalise=normalise.tweets,
        ),
        Dataset(
            name="scitldr",
            task="summarisation",
            size="3,229 abstracts",
            licence="Apache-2.0",
            origin="allenai/scitldr (Cachola et al. 2020)",
            file="scitldr_a.jsonl.gz",
            sha256="27ccd14ac696e812afc589611095d288bca8b262da987bf99933846ec3bc25ef",
            urls=tuple(f"{SCITLDR}/{part}.jsonl" for part in ("train", "dev", "test")),
            normalise=normalise.scitldr,
        ),
    )
}
