"""``order-sync run``: the service."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import structlog

from config.logging import configure_logging
from poller.bootstrap import Service, spare_the_collector
from poller.cli.failures import Failure
from poller.cli.session import check_place, make_folders, require_configuration, require_files
from poller.errors import Unusable
from poller.service.schedule import Schedule

if TYPE_CHECKING:
    from poller.web.server import WebServer


def run() -> None:
    """Run the service: keep orders and customers up to date until stopped.

    Serves HTTP on ORDER_SYNC_LISTEN and logs to standard error. SIGTERM and Ctrl-C stop it within ten
    seconds, with exit status 0. SIGHUP rereads accounts and marketplaces; changed files are
    also noticed without it.
    """
    require_files()
    with Service(os.environ) as service:
        require_configuration(service)
        settings = service.config.settings
        check_place(settings.database_url.get_secret_value(), create=True)
        make_folders(settings)
        configure_logging(settings.log_format, settings.log_level)
        spare_the_collector()
        web = _web_server(service)
        schedule = Schedule(service, on_open=lambda: _announce(service, web))
        signal.signal(signal.SIGTERM, lambda *_: service.stop.set())
        signal.signal(signal.SIGINT, lambda *_: service.stop.set())
        signal.signal(signal.SIGHUP, lambda *_: schedule.ask_reload())
        if web is not None:
            web.start()
        try:
            schedule.run()
        except Unusable as unusable:
            raise Failure(*unusable.sentences) from None
        finally:
            service.stop.set()
            ended = web is None or web.join()
        if not ended:
            os._exit(0)  # a request that still waits for Amazon cannot be ended otherwise


def _announce(service: Service, web: WebServer | None) -> None:
    """Log how to get in, if no one can, before anything else; then that the service is there."""
    log = structlog.get_logger("order_sync")
    if web is not None:
        from poller.web import first_access

        first_access.prepare(service, web.url)
    log.info("starting", process=os.getpid())
    if web is not None:
        log.info("listening", url=web.url)


def _web_server(service: Service) -> WebServer | None:
    """Return the HTTP server, already listening; None if ORDER_SYNC_LISTEN is off. Raises Failure."""
    if service.config.settings.listen is None:
        return None
    from poller.web.server import CannotListen, WebServer, listen  # heavy to import, and optional

    try:
        return WebServer(service, listen(*service.config.settings.listen))
    except CannotListen as fault:
        raise Failure(str(fault)) from None
