# syntax=docker/dockerfile:1
# twinlens with its HTTP server; how to use it: docs/operations/deploy.md
#   docker build -t twinlens .
#   docker build -t twinlens:gpu --build-arg TORCH_INDEX= .
#   docker build -t twinlens:query --target query .     # without torch: answers, and ingests starter

ARG PYTHON=3.12.12-slim-bookworm

FROM python:${PYTHON} AS build
# Where torch and torchvision both come from: one of two indexes does not work with the other's.
# The processor-only builds are a tenth of the size. Empty: the default index, which has CUDA's.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=starter,serve,formats
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/twinlens
ENV PATH=/opt/twinlens/bin:$PATH

# By far the largest layer, and the one that changes least.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch torchvision \
    && pip freeze | grep -E '^torch(vision)?==' > /opt/torch.txt

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY twinlens twinlens
COPY search search
COPY ingest ingest
# The constraint keeps torch what it is; importing both says at once whether they fit.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /opt/torch.txt ".[${EXTRAS}]" \
    && python -c "import open_clip, torchvision" \
    && twinlens --version


# The same without torch and OpenCLIP: pip must not follow what would bring them back.
FROM python:${PYTHON} AS build-query
ARG EXTRAS=starter,serve,formats
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/twinlens
ENV PATH=/opt/twinlens/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY twinlens twinlens
COPY search search
COPY ingest ingest
COPY docker docker
RUN --mount=type=cache,target=/root/.cache/pip \
    python docker/requirements.py "${EXTRAS}" > /opt/requirements.txt \
    && pip install -r /opt/requirements.txt \
    && python docker/requirements.py "${EXTRAS}" --alone > /opt/alone.txt \
    && pip install --no-deps -r /opt/alone.txt . \
    && twinlens --version


FROM python:${PYTHON} AS base
LABEL org.opencontainers.image.title="twinlens" \
      org.opencontainers.image.description="Cross-modal search on Milvus" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC0-1.0 AND LicenseRef-starter-heads"
RUN groupadd --gid 10001 twinlens \
    && useradd --uid 10001 --gid twinlens --no-create-home --home-dir /data \
        --shell /usr/sbin/nologin twinlens \
    && install --directory --owner twinlens --group twinlens /data /models
ENV PATH=/opt/twinlens/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TWINLENS_DB=/data/twinlens.db \
    TWINLENS_MEDIA=/data/media \
    HF_HOME=/models \
    HOME=/data
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/models"]
EXPOSE 8640
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8640/healthz', timeout=4)"]
ENTRYPOINT ["twinlens"]
# Without TWINLENS_KEYS, or --keys FILE, it does not start: other machines can reach it.
CMD ["serve", "--host", "0.0.0.0"]


# For machines that only ask: docker build --target query
FROM base AS query
COPY --from=build-query /opt/twinlens /opt/twinlens


FROM base
COPY --from=build /opt/twinlens /opt/twinlens
