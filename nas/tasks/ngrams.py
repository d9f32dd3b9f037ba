"""Computes character n-grams with interpolated Witten-Bell smoothing, a floor that a trained model has to beat.

    P_n(w | h) = (c(h w) + t(h) · P_{n−1}(w | h′)) / (c(h) + t(h)),   P_0(w) = 1 / vocabulary

c counts the training text, h is the n − 1 characters before w, h′ is h without its first character, and t(h) is the
number of distinct characters seen after h (Witten and Bell 1991, doi:10.1109/18.87000; the recursion as in Chen and
Goodman 1998). A context never seen in training has c = t = 0 and takes P_{n−1} unchanged.

Shapes: N characters of the text, E characters evaluated, K distinct n-grams, C distinct contexts, A of N at a time.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 2**23
CONTEXT = 4
"""Tokens that the longest n-gram looks back."""
AT_ONCE = 2**18
"""Characters whose sorted n-grams are looked at together."""

Tokens = NDArray[np.integer[Any]]
Numbers = NDArray[np.int32]
Span = tuple[int, int]


def losses(
    tokens_N: Tokens, train: Span, evaluated: Span, vocabulary: int, orders: int = 5, low: int = 0
) -> list[float]:
    """Computes the mean −ln P_n of the evaluated span for n = 1 .. orders, from counts of the training span.

    The characters are the numbers of `tokens_N` less `low`. Contexts are the characters that truly come before, in
    whichever span they lie. Only n-grams that end in the training span are counted. Time O(orders · N log N), memory
    about 40 bytes a character.
    """
    inside, asked = slice(*train), slice(*evaluated)
    probability_E = np.full(evaluated[1] - evaluated[0], 1 / vocabulary)
    context_N = np.zeros(len(tokens_N), np.int32)
    contexts, result = 1, list[float]()
    for _ in range(orders):
        gram_N, context_K = _grams(context_N, tokens_N, vocabulary, low)
        count_K = np.bincount(gram_N[inside], minlength=len(context_K))
        count_C = np.bincount(context_N[inside], minlength=contexts)
        distinct_C = np.bincount(context_K[count_K > 0], minlength=contexts)

        h_E = context_N[asked]
        seen_E, types_E = count_C[h_E], distinct_C[h_E]
        mixed_E = (count_K[gram_N[asked]] + types_E * probability_E) / np.maximum(seen_E + types_E, 1)
        probability_E = np.where(seen_E > 0, mixed_E, probability_E)
        result.append(float(-np.log(probability_E).mean()))

        # The next context of a character is the n-gram that ends just before it; the first character has its own.
        contexts = len(context_K) + 1
        context_N[0], context_N[1:] = len(context_K), gram_N[:-1]
    return result


def _grams(context_N: Numbers, tokens_N: Tokens, vocabulary: int, low: int) -> tuple[Numbers, Numbers]:
    """Numbers the n-grams, each a context and the character behind it, by 0 .. K − 1 in ascending order.

    Returns the n-gram that ends at each character, and the context of each n-gram. Numbers without gaps keep the codes
    small, order by order: vocabulary⁵ may exceed 64 bits.
    """
    code_N = context_N.astype(np.int64)
    code_N *= vocabulary
    code_N += tokens_N
    code_N -= low
    order_N = np.argsort(code_N)
    first_N = _first_of_equals(code_N, order_N)
    del code_N
    gram_N = np.empty(len(order_N), np.int32)
    number = 0
    for start in range(0, len(order_N), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        number_A = first_N[part].cumsum(dtype=np.int32) + np.int32(number - 1)
        gram_N[order_N[part]], number = number_A, int(number_A[-1]) + 1
    return gram_N, context_N[order_N[first_N]]


def _first_of_equals(code_N: NDArray[np.int64], order_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells, in ascending order, which codes differ from the one before; the first one does."""
    first_N, before = np.empty(len(order_N), np.bool_), -1
    for start in range(0, len(order_N), AT_ONCE):
        code_A = code_N[order_N[start : start + AT_ONCE]]
        first_N[start : start + AT_ONCE] = np.diff(code_A, prepend=before) != 0
        before = int(code_A[-1])
    return first_N


def bounded_losses(tokens_N: Tokens, low: int, train: Span, evaluated: Span, vocabulary: int) -> list[float]:
    """Computes `losses` of token numbers from `low` on, in bounded memory.

    A text of more than MOST tokens counts the last MOST / 2 of its training span, and evaluates the first MOST / 8 of
    the evaluated one.
    """
    if len(tokens_N) <= MOST:
        return losses(tokens_N, train, evaluated, vocabulary, low=low)
    counted = slice(max(train[0], train[1] - MOST // 2), train[1])
    before = slice(max(evaluated[0] - CONTEXT, 0), evaluated[0])
    asked = slice(evaluated[0], min(evaluated[1], evaluated[0] + MOST // 8))
    parts = [tokens_N[part] for part in (counted, before, asked)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return losses(np.concatenate(parts), (0, ends[0]), (ends[1], ends[2]), vocabulary, low=low)
