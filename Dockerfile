# One image, one process a container: the service, or with another command a worker. Configuration is mounted at /config, SQLite lives in /data.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/order-sync
COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY config config
COPY connectors connectors
COPY poller poller
COPY store store
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && wheel="$(ls /wheels/*.whl)" \
 && /opt/order-sync/bin/pip install --no-cache-dir -c constraints.txt "${wheel}[postgres,distributed]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --no-create-home order-sync \
 && install -d -o order-sync -g order-sync /config /data /run/order-sync
COPY --from=build /opt/order-sync /opt/order-sync
ENV PATH=/opt/order-sync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORDER_SYNC_CONFIG_DIR=/config \
    ORDER_SYNC_RUNTIME_DIR=/run/order-sync
USER order-sync
# The default database is a SQLite file in the working directory.
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 CMD ["order-sync", "health"]
STOPSIGNAL SIGTERM
CMD ["order-sync", "run"]
