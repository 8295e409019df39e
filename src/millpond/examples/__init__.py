"""Examples that ship with Millpond: `churn/` is the tutorial, the demo and a test."""
