"""Makes tests/fixtures/atlas/discover.txt: p values, and what Benjamini and Hochberg make of them.

Run from the repository root: python3 tests/reference/atlas_discover.py (needs numpy and scipy).
"""
import numpy as np
import scipy
from scipy.stats import false_discovery_control

rng = np.random.default_rng(4)
p = np.concatenate([rng.random(30), rng.random(12) ** 6 * 0.02,
                    [1.0, 1.0, 0.5, 0.5, 0.5, 1e-300, 0.0]])
rng.shuffle(p)
with open("tests/fixtures/atlas/discover.txt", "w") as f:
    f.write("# p and q of scipy.stats.false_discovery_control (Benjamini and Hochberg), scipy "
            f"{scipy.__version__}: tests/reference/atlas_discover.py\n")
    for a, b in zip(p, false_discovery_control(p)):
        f.write(f"{float(a)!r} {float(b)!r}\n")
