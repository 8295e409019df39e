"""The pages; file names mirror rooms. Each module has `PAGES`."""
