# One image for every process; the command selects which: `orderly worker`, `orderly migrate` ….
FROM python:3.11-slim

WORKDIR /app
COPY requirements/runtime.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt

COPY . .
RUN pip install --no-cache-dir --no-index --no-deps --no-build-isolation --editable . \
    && useradd --system --no-create-home orderly \
    && install --directory --owner orderly /var/lib/orderly

USER orderly
ENV PYTHONUNBUFFERED=1
CMD ["orderly", "api"]
