"""The library behind the ``crkd`` command: camera-radar knowledge distillation in bird's-eye view.

The packages are floors of one house; each imports only floors below it (``stages`` is the top, ``geometry`` the
bottom; an import contract in the tests keeps it so). Nothing here prints, parses arguments or holds global state.
"""

__version__ = "0.1.0"
