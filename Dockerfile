# syntax=docker/dockerfile:1
# Any Debian-like image with Python 3.11 or newer will do: --build-arg BASE=…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# Flavors beyond scikit-learn, by the extras of pyproject.toml: --build-arg EXTRAS=mlflow,torch,transformers
ARG EXTRAS=mlflow
# A place for wheels that pip should prefer, such as PyTorch's for the CPU: from elsewhere torch brings gigabytes of CUDA.
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/titlebout
WORKDIR /src

# The dependencies first, by a project that is still empty: a change of our own code then reuses this layer. A file that
# has none of the hashes for its pin ends the build; pip itself takes hashes only for whole installations.
COPY pyproject.toml requirements.lock requirements.hashes ./
RUN touch README.md \
    && /opt/titlebout/bin/pip wheel --no-cache-dir --wheel-dir /wheels --constraint requirements.lock ".${EXTRAS:+[${EXTRAS}]}" \
    && rm /wheels/titlebout-*.whl \
    && sha256sum /wheels/*.whl > /wheels/sums \
    && while read -r digest file; do \
        grep --quiet "sha256:${digest}" requirements.hashes || { echo "No hash of ${file} was taken" >&2; exit 1; }; \
    done < /wheels/sums \
    && /opt/titlebout/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

COPY README.md ./
COPY tracking/ tracking/
COPY registry/ registry/
COPY loaders/ loaders/
COPY gateway/ gateway/
RUN /opt/titlebout/bin/pip install --no-cache-dir --no-deps .


FROM ${BASE}
# A number and not a name, so that Kubernetes can see that it isn't root.
ARG UID=10001
RUN groupadd --gid "${UID}" titlebout \
    && useradd --uid "${UID}" --gid "${UID}" --home-dir /var/lib/titlebout --no-create-home --shell /usr/sbin/nologin titlebout \
    && install --directory --mode 0700 --owner "${UID}" --group "${UID}" /var/lib/titlebout
COPY --from=build /opt/titlebout /opt/titlebout

# Libraries that keep a cache at home find it on the one volume that may be written to.
ENV PATH=/opt/titlebout/bin:$PATH \
    HOME=/var/lib/titlebout \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TITLEBOUT_DATA=/var/lib/titlebout \
    TITLEBOUT_PORT=8080
WORKDIR /var/lib/titlebout
USER ${UID}:${UID}
EXPOSE 8080

# Liveness only: a server that waits for its database or its models is healthy, and /ready tells a balancer to wait.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"TITLEBOUT_PORT\"]}/health', timeout=2)"]

ENTRYPOINT ["titlebout"]
# A container that listens on its own loopback could be reached by nobody. On any other address credentials are asked
# for; without TITLEBOUT_ADMIN_TOKEN the first start makes a token, and prints it once.
CMD ["serve", "--host", "0.0.0.0"]
