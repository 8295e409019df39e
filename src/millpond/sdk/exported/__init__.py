"""Files that travel with an exported model. They run without Millpond, so they import nothing of it."""
