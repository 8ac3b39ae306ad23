# One image for every process; the command selects which: `orderly worker`, `orderly migrate` …. It has no
# servers. To pin the base by its digest: docker build --build-arg PYTHON=python:3.11-slim@sha256:….
ARG PYTHON=python:3.11-slim
# For the label: --build-arg REVISION=$(git rev-parse HEAD).
ARG REVISION=unknown

FROM ${PYTHON} AS build
WORKDIR /app
COPY requirements/runtime.txt requirements/
RUN python -m venv /opt/orderly \
    && /opt/orderly/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY . .
RUN /opt/orderly/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation --editable .

FROM ${PYTHON}
ARG REVISION
LABEL org.opencontainers.image.title="orderly" org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.revision="${REVISION}"
RUN useradd --system --uid 10001 --no-create-home orderly \
    && install --directory --owner orderly /var/lib/orderly
COPY --from=build /opt/orderly /opt/orderly
COPY --from=build /app /app
WORKDIR /app
USER 10001
ENV PATH=/opt/orderly/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8080 8081
CMD ["orderly", "api"]
