# One image, one process a container: the service, or with another command a worker. Configuration is mounted at /config, SQLite lives in /data.
# The digest is that of 3.13.15-slim-trixie, for all platforms.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
COPY requirements requirements
RUN python -m venv /opt/build \
 && python -m venv --without-pip /opt/order-sync \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/order-sync/bin/python install --no-cache-dir --require-hashes -r requirements/image.txt
COPY LICENSE README.md pyproject.toml ./
COPY config config
COPY connectors connectors
COPY poller poller
COPY store store
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/order-sync/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
RUN python -m pip uninstall --yes --quiet pip \
 && useradd --system --uid 10001 --user-group --no-create-home order-sync \
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
