# The API and the worker. PostgreSQL is elsewhere: set DATABASE_URL and MULTITUDE_SECRET_KEYS.
# The base image, by digest: `make pin` writes it, `make image` insists on it.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
RUN python -m venv /opt/multitude
COPY requirements/serve.lock requirements/
RUN /opt/multitude/bin/pip install --no-cache-dir --require-hashes -r requirements/serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
RUN /opt/multitude/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/multitude/bin/pip uninstall --yes hatchling editables pip setuptools

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin multitude
COPY --from=build /opt/multitude /opt/multitude
ENV PATH=/opt/multitude/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER multitude
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["multitude"]
CMD ["serve", "--host", "0.0.0.0"]
