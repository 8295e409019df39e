"""What features are asked for with."""
