"""``order-sync worker``: carry out the jobs that `order-sync run` queues."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import structlog
import typer

from config.logging import configure_logging
from poller.bootstrap import Service, spare_the_collector
from poller.cli.failures import BAD_INPUT, Failure
from poller.cli.session import make_folders, require_configuration, require_files
from poller.errors import Unusable


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            max=100,
            help="Sources synced at once; default: ORDER_SYNC_WORKER_CONCURRENCY.",
        ),
    ] = None,
) -> None:
    """Carry out the jobs that `run` queues, with ORDER_SYNC_EXECUTOR=procrastinate. Start any number.

    Logs to standard error. SIGTERM and Ctrl-C stop it within ten seconds, with exit status 0. SIGHUP
    rereads accounts and marketplaces; changed files are also noticed without it.
    """
    require_files()
    with Service(os.environ) as service:
        require_configuration(service)
        settings = service.config.settings
        if settings.executor != "procrastinate":
            raise Failure(
                "a worker has nothing to do: with ORDER_SYNC_EXECUTOR=threads `order-sync run` does all "
                "work itself; set ORDER_SYNC_EXECUTOR=procrastinate for both.",
                status=BAD_INPUT,
            )
        from poller.service.worker import Worker

        make_folders(settings)
        configure_logging(settings.log_format, settings.log_level)
        spare_the_collector()
        running = Worker(service, concurrency or settings.worker_concurrency)
        signal.signal(signal.SIGTERM, lambda *_: service.stop.set())
        signal.signal(signal.SIGINT, lambda *_: service.stop.set())
        signal.signal(signal.SIGHUP, lambda *_: running.ask_reload())
        structlog.get_logger("order_sync").info("starting", process=os.getpid(), role="worker")
        try:
            running.run()
        except Unusable as unusable:
            raise Failure(*unusable.sentences) from None
