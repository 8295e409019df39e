from pathlib import Path

FINDS_TESTS = {"PYTHONPATH": str(Path(__file__).parents[2])}
"""What a child process needs to import from here."""
