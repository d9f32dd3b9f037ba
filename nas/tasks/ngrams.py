"""Computes character n-grams with interpolated Witten-Bell smoothing, a floor that a trained model has to beat.

    P_n(w | h) = (c(h w) + t(h) · P_{n−1}(w | h′)) / (c(h) + t(h)),   P_0(w) = 1 / vocabulary

c counts the training text, h is the n − 1 characters before w, h′ is h without its first character, and t(h) is the
number of distinct characters seen after h (Witten and Bell 1991, doi:10.1109/18.87000; the recursion as in Chen and
Goodman 1998). A context never seen in training has c = t = 0 and takes P_{n−1} unchanged.

Shapes: N characters of the text, E characters evaluated, K distinct n-grams, C distinct contexts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 2**23
CONTEXT = 4
"""Tokens that the longest n-gram looks back."""

Integers = NDArray[np.int64]
Span = tuple[int, int]


def losses(tokens_N: Integers, train: Span, evaluated: Span, vocabulary: int, orders: int = 5) -> list[float]:
    """Computes the mean −ln P_n of the evaluated span for n = 1 .. orders, from counts of the training span.

    Contexts are the characters that truly come before, in whichever span they lie. Only n-grams that end in the
    training span are counted. Time O(orders · N log N).
    """
    inside, asked = slice(*train), slice(*evaluated)
    probability_E = np.full(evaluated[1] - evaluated[0], 1 / vocabulary)
    context_N = np.zeros_like(tokens_N)
    result = []
    for _ in range(orders):
        # Dense numbers of the n-grams, order by order, keep the codes small: vocabulary⁵ may exceed 64 bits.
        codes_K, gram_N = np.unique(context_N * vocabulary + tokens_N, return_inverse=True)
        contexts = int(context_N.max()) + 1
        count_K = np.bincount(gram_N[inside], minlength=len(codes_K))
        count_C = np.bincount(context_N[inside], minlength=contexts)
        distinct_C = np.bincount(codes_K[count_K > 0] // vocabulary, minlength=contexts)

        h_E = context_N[asked]
        seen_E, types_E = count_C[h_E], distinct_C[h_E]
        mixed_E = (count_K[gram_N[asked]] + types_E * probability_E) / np.maximum(seen_E + types_E, 1)
        probability_E = np.where(seen_E > 0, mixed_E, probability_E)
        result.append(float(-np.log(probability_E).mean()))

        # The next context of a character is the n-gram that ends just before it; the first character has its own.
        context_N = np.concatenate(([len(codes_K)], gram_N[:-1]))
    return result


def bounded_losses(tokens_N: NDArray[Any], low: int, train: Span, evaluated: Span, vocabulary: int) -> list[float]:
    """Computes `losses` of token numbers from `low` on, in bounded memory.

    A text of more than MOST tokens counts the last MOST / 2 of its training span, and evaluates the first MOST / 8 of
    the evaluated one.
    """
    if len(tokens_N) <= MOST:
        return losses(tokens_N.astype(np.int64) - low, train, evaluated, vocabulary)
    counted = slice(max(train[0], train[1] - MOST // 2), train[1])
    before = slice(max(evaluated[0] - CONTEXT, 0), evaluated[0])
    asked = slice(evaluated[0], min(evaluated[1], evaluated[0] + MOST // 8))
    parts = [tokens_N[part].astype(np.int64) - low for part in (counted, before, asked)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return losses(np.concatenate(parts), (0, ends[0]), (ends[1], ends[2]), vocabulary)
