"""The process that publishes: `python -m millpond.online.publisher_process OWNER`, a child of the server.

Encoding rows takes a processor and memory that the server's requests shall not miss.
"""

import signal
import sys
import threading

from millpond.catalog.service import open_catalog
from millpond.home import Home
from millpond.kernel.database import Database
from millpond.kernel.logs import configure_logs
from millpond.kernel.settings import load_settings
from millpond.online.publisher import Publisher
from millpond.online.stores import Backends

_THREADS = 3
"""So that one large table does not keep the others waiting."""


def main() -> None:
    """Publish until SIGTERM."""
    settings = load_settings()
    configure_logs(settings.log_level, process="publisher")
    database = Database(settings.effective_database_url)
    catalog = open_catalog(database, settings, lambda _name: None)
    backends = Backends(Home(settings.data_dir).online, settings.online.stores)
    publisher = Publisher(database, catalog, backends, settings.s3, owner=sys.argv[1])
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threads = [threading.Thread(target=publisher.run, args=(stopped, number)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
