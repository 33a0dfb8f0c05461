# A3Tune Studio for a server of one's own; how it is put together with a proxy and an archive: docs/hospital.md.
#   docker build --tag a3tune-studio .                            for machines without a GPU
#   docker build --tag a3tune-studio --build-arg TORCH=cuda .     with CUDA; start it with --gpus all
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS installed
ARG TORCH=cpu
WORKDIR /studio
COPY requirements.txt constraints.txt ./
RUN python -m venv /venv
# PyTorch's own wheels without CUDA take a tenth of the room; the same versions from PyPI bring CUDA.
RUN case "$TORCH" in \
      cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
      cuda) index="" ;; \
      *) echo "TORCH is cpu or cuda, not $TORCH" >&2; exit 1 ;; \
    esac \
    && /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check $index \
       -r requirements.txt -c constraints.txt

FROM python:${PYTHON}-slim
COPY --from=installed /venv /venv
RUN groupadd --gid 10001 studio \
    && useradd --uid 10001 --gid studio --home-dir /data --no-create-home --shell /usr/sbin/nologin studio \
    && install --directory --owner studio --group studio --mode 0700 /data
WORKDIR /studio
COPY app.py README.md LICENSE THIRD_PARTY.md ./
COPY a3tune ./a3tune
COPY app ./app
COPY assets ./assets
# The root of the container may be read-only: everything that is written goes to /data and /tmp.
RUN /venv/bin/python -m compileall -q a3tune app app.py
ENV PATH=/venv/bin:$PATH \
    HOME=/data \
    A3TUNE_STUDIO=/data/studio \
    A3TUNE_CACHE=/data/cache \
    HF_HOME=/data/hub \
    MPLCONFIGDIR=/data/cache/matplotlib \
    GRADIO_TEMP_DIR=/tmp/uploads \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    A3TUNE_DEPLOYMENT=server \
    A3TUNE_LOG=json \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as ask; ask.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["python", "app.py"]
