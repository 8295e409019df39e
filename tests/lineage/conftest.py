"""The pipeline, run once by a gateway for all tests of this room."""
