# A clone with its environment, for workers and for trying segpipe. The build was not tried: no machine with Docker was at hand.
#
#   docker build --tag segpipe .                                        # for CPUs
#   docker build --tag segpipe:gpu --build-arg ACCELERATOR=gpu .        # for NVIDIA GPUs
#   docker run --rm -it segpipe make repro
#   docker run --rm -it --gpus all segpipe:gpu make repro
#
# Both hold the packages of requirements.lock, whose torch brings CUDA's libraries; the machine brings the GPU's driver.
ARG ACCELERATOR=cpu

FROM python:3.11-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home segpipe
WORKDIR /segpipe
RUN chown segpipe /segpipe
USER segpipe
# The packages first: they change less often than the code.
COPY --chown=segpipe pyproject.toml requirements.lock installer.lock Makefile README.md LICENSE ./
COPY --chown=segpipe src src
COPY --chown=segpipe pipelines pipelines
COPY --chown=segpipe tools tools
RUN make setup
COPY --chown=segpipe . .
ENV PATH="/segpipe/.venv/bin:$PATH"
CMD ["segpipe", "--help"]

FROM base AS cpu
ENV CUDA_VISIBLE_DEVICES=""

FROM base AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${ACCELERATOR}
