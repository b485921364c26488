"""The APIs that clients speak, one file each, over the same runs. :mod:`moa.server.dialects.dialect` is their interface."""
