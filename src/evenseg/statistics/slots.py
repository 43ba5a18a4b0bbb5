"""Where the kernels of every engine put their sums, and the bits that say what is wanted of them."""

# slots of the softmax sums; the focal and power sums follow, then weighted counts: predictions, hits, labels
PROB, PROB_SQ, OVERLAP, NLL, NLL_ALL, FIXED_SLOTS = 0, 1, 2, 3, 4, 5
# slots of the softmax counts
LABELS, PREDICTED, HITS, COUNT_SLOTS = 0, 1, 2, 3
# slots of the sums by side of a row of margins; the focal and power sums follow, then the weights and the weighted hits
MISS, MISS_SQ, MARGIN_NLL, MARGIN, MARGIN_FIXED_SLOTS = 0, 1, 2, 3, 4
# slots of their counts; ZEROS: hinge errors of 0, which no histogram counts
PIXELS, MARGIN_HITS, ZEROS, MARGIN_COUNT_SLOTS = 0, 1, 2, 3
# what is wanted, as bits
WANT_PROB, WANT_PROB_SQ, WANT_OVERLAP, WANT_NLL, WANT_NLL_ALL = 1, 2, 4, 8, 16
WANT_HITS, WANT_ERRORS, WANT_PIXEL, WANT_RANKS, WANT_ABSENT = 32, 64, 128, 256, 512
WANT_MISS = WANT_PROB | WANT_PROB_SQ | WANT_OVERLAP

POWER_FLOOR = 1e-7  # (-log p)^q has an infinite slope at p = 1 for q < 1: below the floor it is constant
