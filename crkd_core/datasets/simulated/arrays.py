"""The kind of array that most of the simulator computes with."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
