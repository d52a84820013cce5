"""An example: what a right answer costs by greedy decoding, votes, best-of-n and tree search; with a real, tiny model.

`strategies.py` is the part to copy: it needs nothing of the rest.
"""

import os

# Matrices are small here, and threads that wait for each other make them slow: it has to be said before NumPy is there.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
