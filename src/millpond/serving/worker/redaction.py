"""Messages for users show no path of the server, and no secret that the model was given."""

import re
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from millpond.kernel.redaction import Redactor


class Redaction:
    """Replaces the server's directories by what they are, and secrets by a mark."""

    def __init__(self, model_dir: Path | None, secrets: Sequence[str] = ()) -> None:
        self.secrets = Redactor(secrets)
        packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
        millpond = str(Path(__file__).resolve().parents[3])
        names = {str(model_dir or ""): "<model>", str(Path.cwd()): "<tmp>", millpond: "<packages>"}
        names |= dict.fromkeys(packages, "<packages>") | dict.fromkeys(library, "<python>")
        names |= {sys.prefix: "<python>", sys.base_prefix: "<python>"}
        longest_first = sorted((path for path in names if len(path) > 1), key=len, reverse=True)
        self._names = names
        self._paths = re.compile("|".join(re.escape(path) for path in longest_first))

    def clean(self, text: str) -> str:
        """The text without secrets, without the server's directories and without NUL characters."""
        shown = self.secrets.clean(text)
        return self._paths.sub(lambda match: self._names[match.group()], shown).replace("\0", "")
