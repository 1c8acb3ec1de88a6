"""The stages: one function each, `stage(request, workspace, progress) -> result`."""
