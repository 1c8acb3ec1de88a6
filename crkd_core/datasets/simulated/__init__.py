"""A simulated world written in the nuScenes format: see :func:`crkd_core.stages.simulate.simulate`."""
