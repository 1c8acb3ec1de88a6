"""Parity with the published implementation: every recorded case, run through the public modules of ``crkd_core``.

``python -m tests.parity [DIR]`` prints one row per case and fails on any mismatch, on a case of no known kind, and on
any recorded output that nobody compared. Everything is computed from a case's settings and arrays, so that further
cases of the same kinds run too.

- ``cases``: where cases lie, and reading them; ``golden``: what one is; ``packing``: the file of a committed one;
  ``subset``: which ones are committed
- ``comparison``: what agrees, and the record of what was compared; ``rules``: where we differ on purpose; ``released``:
  the published conventions and settings in ours; ``kinds``: which runner takes which case
- the other modules are runners, one family each
"""

import os

# The recording was made with oneDNN's kernels for AVX2; those for newer processors round differently, which moves the
# maps of a whole detector ten times as far.
os.environ.setdefault("DNNL_MAX_CPU_ISA", "AVX2")
