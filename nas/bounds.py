"""Defines the largest values that a study file, an architecture and a workload may have (docs/study_file.md, "Bounds").

They are far above what a small Transformer needs. So a typing error in a number is reported at once, before anything is
built, and no value makes `nas` wait or fill the memory just to read a file.
"""

HIDDEN = 16_384
BLOCKS = 256
"""Blocks of one stack."""
HIDDEN_SQUARED_BLOCKS = 2**30
"""Hidden size × hidden size × blocks: about 13 billion weights in blocks of the usual form."""
REPEATED_BLOCKS = 1_024
"""Blocks × repeat: how many blocks a token passes."""
HEADS = 1_024
HEAD_SIZE = 4_096
ALL_HEADS = 65_536
"""heads × head_size."""
FEATURES = 4_096
"""Sizes inside one attention: `latent`, `rope_size`, `features`, `rank`."""
CONV = 256

CONTEXT = 131_072
TOKENS_AT_ONCE = 2**24
"""batch × context."""
NUMBERS_AT_ONCE = 2**30
"""batch × vocabulary, of tasks that draw their symbols."""
VOCABULARY = 1_000_000
STEPS = 10**9
RUNGS = 100
REPEATS = 100_000
PRECISION = 0.001
"""The least share of a time to which it is measured: no clock and no machine repeats better."""
TRIALS = 1_000_000
SEEDS = 100
RUNS = 1_000
"""Seeds, processes or architectures of one benchmark."""
THREADS = 1_024
PROCESSORS = 10_000
LEAST_CPU, LEAST_GPU = 0.05, 0.01
"""The least share of a CPU or a GPU for one trial: what is smaller lets thousands of trials start side by side."""
RATE = 1_000.0
"""Learning rate, weight decay, clip."""
SECONDS = 366 * 86_400
"""The longest duration: one year."""

GENERATED = 1_000_000
"""Tokens that one call writes."""
BEAMS = 100

CHOICES = 1_000
"""In one list."""
COMBINATIONS = 10_000
"""The most choices in all attention entries of a stack, the hidden sizes and the positions."""
FORMS = 1_000
"""The most choices of feed_forward, norm and residual."""
BASELINES = 100
TARGETS = 8
"""In one study: each is measured for every trial."""
PATH = 4_096
"""Characters of the path or name of a corpus."""
COLUMNS = 100

FILE_BYTES = 128 * 1024
"""The most characters of a study file, and of one -s."""
DEPTH = 16
"""Tables and lists in each other."""
KEY_PARTS = 100
"""Names with dots between, in one key."""
WHOLE = 2**63 - 1

TEXT_BYTES = 2**40
"""The most bytes of a file of text, unpacked. It is read in pieces."""
TABLE_BYTES = 2**30
"""The most bytes of a table that is read as a whole, unpacked."""
LINE_BYTES = 2**26
"""One line of JSON lines."""
FILES = 100_000
"""Files of one corpus."""
TOKENIZER_BYTES = 2**26
ROWS = 2_000_000
"""The most rows of a table."""
