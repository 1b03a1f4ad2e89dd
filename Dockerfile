# Built in two stages: the first makes wheels of Forebay and all it needs, the second installs
# them and nothing else. PIP_INDEX_URL and PIP_TRUSTED_HOST may name a package index to build from.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /forebay \
    && /forebay/bin/pip wheel --no-cache-dir --wheel-dir wheels . \
    && /forebay/bin/pip install --no-cache-dir --no-index --find-links wheels forebay \
    && /forebay/bin/pip uninstall --yes pip

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=build /forebay /forebay
# Inside the container it must listen on every interface; what of that is published, and where,
# is for docker-compose.yml or docker run to say.
ENV PATH=/forebay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FOREBAY_SERVER__HOST=0.0.0.0 \
    FOREBAY_CACHE__DIR=/cache
# The number of the first user of most machines, so that a bind-mounted cache is often right as
# it is; by number, so that an orchestrator can see that it is not root.
RUN install -d -o 1000 -g 1000 /cache
USER 1000:1000
VOLUME /cache
EXPOSE 8000
# Slim images have no curl; a client without proxies asks the port that compose publishes. Where TLS
# is configured by variable, it asks over TLS: whose certificate that is does not matter here.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import http.client as h, os, ssl; p = int(os.environ.get('FOREBAY_SERVER__PORT', '8000')); c = h.HTTPSConnection('127.0.0.1', p, timeout=4, context=ssl._create_unverified_context()) if os.environ.get('FOREBAY_TLS__CERTIFICATE') else h.HTTPConnection('127.0.0.1', p, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["forebay"]
CMD ["serve"]
