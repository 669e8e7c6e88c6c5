# The project and its environment, from the same locks as everywhere:
#     docker build --tag digits .                          # with --build-arg EXTRAS=gpu: for NVIDIA's GPUs
#     docker run --rm --init digits                        # runs the pipeline; `digits make verify` another command
# The tag of Debian names a point release, and may still get another build. Its digest, which `docker pull` prints, names
# one: --build-arg BASE=debian@sha256:...
ARG BASE=debian:12.12-slim
FROM ${BASE}

RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates git less make openssh-client python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --shell /bin/bash user \
    && mkdir /project \
    && chown user: /project

USER user
WORKDIR /project
COPY --chown=user:user . .

ARG EXTRAS=
RUN make setup EXTRAS="${EXTRAS}"

CMD ["make", "repro"]
