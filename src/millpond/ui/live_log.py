"""A log that grows while somebody looks at it."""

from nicegui.element import Element


class LiveLog(Element, component="components/live_log.js"):
    """What a task prints; the browser keeps its last million characters."""

    def __init__(self, label: str, text: str) -> None:
        super().__init__()
        self.props["label"] = label
        self.props["text"] = text

    def append(self, text: str) -> None:
        """Show what came since."""
        self.run_method("append", text)
