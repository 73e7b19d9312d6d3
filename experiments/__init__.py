"""The paper's figures: a package for each family, a room that they share, and what runs them."""

import os

# Small eigenproblems wait longer for each other's threads than they take. OpenBLAS reads this when
# NumPy is imported; the other names, which a user may have set, mean the same to it.
if not {"GOTO_NUM_THREADS", "OMP_NUM_THREADS"} & set(os.environ):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
