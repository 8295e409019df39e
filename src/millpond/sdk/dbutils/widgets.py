"""`dbutils.widgets`: a notebook's parameters. A value is what the task gave, or the default."""

from collections.abc import Mapping, Sequence


class Widgets:
    """Parameters by name; one that the task gave needs no widget."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._values: dict[str, str] = {}

    def text(self, name: str, defaultValue: str = "", label: str | None = None) -> None:
        """A parameter with a default."""
        self._make(name, defaultValue)

    def dropdown(
        self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None
    ) -> None:  # fmt: skip
        """One of some choices. Raises ValueError for a default or a given value that is none of them."""
        self._choose(name, defaultValue, choices)

    def combobox(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        """Any value; choices are proposals."""
        self._make(name, defaultValue)

    def multiselect(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        """Several of some choices, as `a,b`. Raises ValueError."""
        self._choose(name, defaultValue, choices, several=True)

    def get(self, name: str) -> str:
        """The value. Raises ValueError where neither the task gave one nor a widget was made."""
        if name in self._values:
            return self._values[name]
        if name in self._given:
            return self._given[name]
        known = ", ".join(sorted(self.getAll())) or "none"
        raise ValueError(f"No input widget named '{name}' is defined; there are {known}.")

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:
        """As `get`, with a default; an older name."""
        if defaultValue is not None and name not in self.getAll():
            return defaultValue
        return self.get(name)

    def getAll(self) -> dict[str, str]:
        """All values by name."""
        return {**self._given, **self._values}

    def remove(self, name: str) -> None:
        """Forget a widget, and what was given for it."""
        self._values.pop(name, None)
        self._given.pop(name, None)

    def removeAll(self) -> None:
        """Forget all."""
        self._values.clear()
        self._given.clear()

    def give(self, values: Mapping[str, str]) -> None:
        """Take values as `%run` gives them."""
        self._given.update(values)
        self._values.update({name: value for name, value in values.items() if name in self._values})

    def _make(self, name: str, default: str) -> None:
        self._values[str(name)] = self._given.get(name, str(default))

    def _choose(self, name: str, default: str, choices: Sequence[str], *, several: bool = False) -> None:
        known = [str(choice) for choice in choices]
        if str(default) not in known and not (several and set(str(default).split(",")) <= set(known)):
            raise ValueError(f"The default '{default}' of widget '{name}' is none of its choices: {', '.join(known)}.")
        value = self._given.get(name, str(default))
        if not set(value.split(",") if several else [value]) <= set(known):
            raise ValueError(f"'{value}' is no choice of widget '{name}': {', '.join(known)}.")
        self._make(name, default)
